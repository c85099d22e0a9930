"""Models: the tiny built-in one and its supervised warm-up."""
