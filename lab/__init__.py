"""What tests, chaos and benchmarks start on this machine: processes, servers, stores, a whole deployment."""
