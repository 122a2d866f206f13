"""The ops pages: see, hear, find and fix, in a browser; and the same data as JSON under `/api/`."""
