"""Configuration as code: compare and apply one TOML file to the account at Telnyx."""
