"""The other sides: programs as a user would write them."""
