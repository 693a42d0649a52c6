"""After training: a model in Python, and its predictions for image files."""
