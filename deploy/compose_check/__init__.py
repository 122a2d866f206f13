"""The check of `compose.yaml` as a whole."""
