"""A Telnyx API on this machine, for tests and trials. It imports no other room."""
