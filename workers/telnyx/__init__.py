"""Whom we talk to: the Telnyx API, its models, its errors, its downloads."""
