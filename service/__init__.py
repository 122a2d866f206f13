"""Answer HTTP: the webhook receiver, health, metrics and the ops pages."""
