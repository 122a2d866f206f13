"""Files for deployments, and what checks them."""
