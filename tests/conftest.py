"""Settings shared by all tests."""

from hypothesis import settings

# The same examples in every run, and no deadline: the machines that run this are shared and noisy.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")
