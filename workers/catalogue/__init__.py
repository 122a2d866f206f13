"""The catalogue: finds a call among millions."""
