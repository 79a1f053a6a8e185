"""Open-loop load: what to send, the process that sends it with Locust, and what became of it."""
