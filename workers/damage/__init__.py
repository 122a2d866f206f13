"""What is known of damaged objects."""
