"""How times, sizes, counts and errors are read and written."""
