"""The library the product is about: keys, records, proofs, seals, and the stores. It knows no job and no Redis."""
