"""The archive: keys, records, proofs, seals, and the stores that hold them."""
