"""From raw data to a prepared set: the pipeline, the wordings of its questions, the selection of rows, what it shows.

Nothing is imported here, so that `r1sharevl --help` stays fast.
"""
