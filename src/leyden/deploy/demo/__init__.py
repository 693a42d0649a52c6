"""`leyden demo`: a local page to try a checkpoint."""
