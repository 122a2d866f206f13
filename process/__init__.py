"""What every process does: its signs of life, its logs and traces, HTTP answers in threads, its end."""
