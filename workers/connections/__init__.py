"""Configuration as code: one TOML file in the user's repository against the account at Telnyx."""
