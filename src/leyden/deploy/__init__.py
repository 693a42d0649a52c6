"""What happens after training: predictions."""
