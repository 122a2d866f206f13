"""The stores of an archive: one module for each, with one interface."""
