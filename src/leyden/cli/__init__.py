"""The command line: parsing, checks before training, one-line errors and exit codes."""
