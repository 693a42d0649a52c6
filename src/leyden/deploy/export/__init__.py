"""Files that other runtimes read, made of a checkpoint."""
