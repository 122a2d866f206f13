"""Disposes of recordings whose retention rule has ended: finds them, asks everything anew, and certifies what is gone."""
