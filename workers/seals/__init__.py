"""Sealing closed days, and the chain of seals."""
