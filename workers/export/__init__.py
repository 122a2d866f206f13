"""Bundles of recordings that somebody without the archive can play, read and check."""
