"""Other servers of models, each in a virtual environment of its own, beside ours in one run."""
