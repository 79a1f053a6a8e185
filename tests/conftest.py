"""Settings shared by all tests."""

import signal
from pathlib import Path

import ansible.module_utils
from hypothesis import settings

import farrier

# Where Ansible puts what the role's modules share, these are found under that name.
SHARED = Path(farrier.__file__).parent / "ansible" / "module_utils"
ansible.module_utils.__path__.append(str(SHARED))

# A background job of a shell without job control, as CI may be, ignores SIGINT, and so would all commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no deadline: the machines that run this are shared and noisy.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("steady")

pytest_plugins = ["fault_table"]
