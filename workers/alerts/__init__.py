"""Whom we tell: what a person must know now."""
