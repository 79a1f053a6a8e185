"""A plan: each setting of a host with its reason."""
