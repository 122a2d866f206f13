"""What runs in the background: jobs, their queue, the Telnyx client, the archive."""
