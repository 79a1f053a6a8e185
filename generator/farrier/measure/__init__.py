"""`farrier measure`: what a request costs on a host."""
