"""What runs in the background, one room for each promise."""
