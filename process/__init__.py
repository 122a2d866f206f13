"""What every process does: its signs of life, its logs and traces, its end."""
