"""How events become jobs on Redis: accepted once, durably, in one round trip."""
