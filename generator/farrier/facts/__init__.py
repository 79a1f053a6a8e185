"""Host facts: what a host is, gathered, read and written."""
