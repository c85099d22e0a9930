"""A pass through the model in which the responses to a prompt share its tokens and images."""
