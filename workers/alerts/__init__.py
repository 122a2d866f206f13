"""Alerts: what a person must know now, and how it reaches them."""
