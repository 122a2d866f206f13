"""Retention rules: the file, what would go when, and applying them. Nothing here deletes."""
