"""Data: the schema of a prepared set, the readers, the prep pipeline and the built-in synthetic set.

Nothing is imported here: `r1_sharevl.data.schema` needs `datasets`, and `import r1_sharevl.data.…` should cost no more
than the module asked for.
"""
