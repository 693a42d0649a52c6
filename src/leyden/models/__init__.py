"""LightningModules, one file a model; `base.py` holds the tasks."""
