"""What the Trainer calls while it trains and evaluates."""
