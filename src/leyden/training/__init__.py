"""What happens around a step: run directories, callbacks, checkpoint files."""
