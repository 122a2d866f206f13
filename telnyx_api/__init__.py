"""The client of the Telnyx API: operations, models, errors, downloads. It knows nothing of Callvault's work."""
