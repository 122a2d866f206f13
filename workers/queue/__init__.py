"""How work is queued on Redis: acceptance, leases, retries, dead letters."""
