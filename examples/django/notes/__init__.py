"""A notebook on the web: small, and complete enough to be deployed."""
