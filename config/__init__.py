"""What the user sets: every setting typed and checked at start-up."""
