"""Other wordings of a question: written by a language model, and checked that they ask the same."""
