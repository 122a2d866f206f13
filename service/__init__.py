"""What answers HTTP: the webhook receiver, health and metrics."""
