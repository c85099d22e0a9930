"""Starting runs: the packaged recipes, accelerate's launcher, and what this machine can run."""
