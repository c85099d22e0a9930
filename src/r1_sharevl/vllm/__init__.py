"""Generation by vLLM: prompts that it reads as the trainer does, and checks that it answers with the same model."""
