"""The directory of a run, its files, and the loggers that write them."""
