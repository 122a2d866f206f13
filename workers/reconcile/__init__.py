"""Comparing Telnyx with the archive, and fetching what is missing."""
