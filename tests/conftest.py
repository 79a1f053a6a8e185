"""Settings shared by all tests."""

import signal

from hypothesis import settings

# A background job of a shell without job control, as CI may be, ignores SIGINT, and so would all commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no deadline: the machines that run this are shared and noisy.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")

pytest_plugins = ["fault_table"]
