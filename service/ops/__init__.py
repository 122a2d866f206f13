"""The ops pages for a browser, and the same data as JSON under `/api/`."""
