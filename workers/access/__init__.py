"""The access log: written before anything is shown, moved into the archive in batches, and read back."""
