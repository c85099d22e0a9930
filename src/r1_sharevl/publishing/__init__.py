"""After training: merging an adapter into its base, the model card, and the way to the Hub."""
