"""What is kept: keys, commit records, proof, and the stores underneath."""
