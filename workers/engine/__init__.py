"""How jobs run: claims and leases, retries, failure classes, dead letters."""
