"""What is done: one module a kind of work, each function an arq job."""
