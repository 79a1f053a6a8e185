"""Runs one of the role's modules as Ansible does: arguments as JSON on its input, its result as JSON on its output."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import farrier

MODULES = Path(farrier.__file__).parent / "ansible" / "modules"
SHARED = Path(farrier.__file__).parent / "ansible" / "module_utils"

AS_ANSIBLE = """import runpy, sys
import ansible.module_utils
shared, module = sys.argv[1:]
sys.argv[1:] = []
ansible.module_utils.__path__.append(shared)
runpy.run_path(module, run_name="__main__")
"""
"""Runs a module where it finds what modules share, as it does when Ansible has packed it."""


def run_module(module: str, arguments: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    """The result of one call; `failed` is in it when the module failed."""
    payload = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}
    done = subprocess.run(
        [sys.executable, "-c", AS_ANSIBLE, SHARED, MODULES / f"{module}.py"],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result
