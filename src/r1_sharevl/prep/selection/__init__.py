"""Which rows a prepared set keeps: duplicates, contamination, prompt length, difficulty."""
