"""The catalogue: how a call is found among millions."""
