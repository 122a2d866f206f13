"""Where it is kept: one module a store, all of one interface."""
