"""What tests, chaos runs and benchmarks start on this machine: processes, servers, stores, and a whole deployment."""
