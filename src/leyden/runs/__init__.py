"""The directory of a run: its files, its record and its loggers."""
