"""What a run will need before it is started: its batches and its memory, from the settings alone."""
