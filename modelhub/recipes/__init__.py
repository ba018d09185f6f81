"""The recipes: a new one is one file here, and one line below."""
