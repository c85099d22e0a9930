"""Which rows a prepared set keeps: duplicates, contamination, prompt length, difficulty, and the mixture of sources.

Nothing is imported here: neither torch nor transformers is, until a prompt is counted or a model asked.
"""
