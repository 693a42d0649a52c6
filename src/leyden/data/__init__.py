"""LightningDataModules, one file a dataset; `base.py` holds the split, the loaders and batch transforms."""
