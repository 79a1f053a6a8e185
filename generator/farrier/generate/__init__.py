"""What `farrier generate` writes."""
