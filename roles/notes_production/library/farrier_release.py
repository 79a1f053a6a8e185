#!/usr/bin/python
"""Make a release on the host from a packed source: unpacked, with its virtual environment and its static files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import time
from typing import Any

from ansible.module_utils import farrier_archive as archive
from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_cell import of_release
from ansible.module_utils.farrier_host import LOCK, Failure, holding
from ansible.module_utils.farrier_text import printable, redacted
from ansible.module_utils.farrier_venv import VirtualEnvironment, state_of
from ansible.module_utils.farrier_workplace import Workplace, remove

DOCUMENTATION = r"""
module: farrier_release
short_description: Make an immutable release of the application
description:
  - A release is built aside as C(releases/<id>.partial) and renamed when it is whole, so an interrupted build leaves nothing in use.
  - Its virtual environment is named by the Python version and the content of the requirements; releases that agree share it.
  - Where the same requirements may bring something else next time (a part of the release, a branch), they are not shared.
  - The application's own code and that of its packages (Python, pip, O(static_command)) runs as O(user) in O(sandbox), never
    as root. A finished release belongs to root.
  - Without O(archive) it only says whether the release is there, and mends a virtual environment that is missing.
options:
  release: {type: str, required: true, description: Name of the release, as farrier_source gives it.}
  archive: {type: path, description: The packed source, on this host; removed when the release is made.}
  home: {type: path, required: true, description: Directory that holds C(releases), C(venvs) and C(slots).}
  user: {type: str, required: true, description: User who runs the application.}
  python: {type: str, default: python3, description: Interpreter for the virtual environment.}
  requirements: {type: str, required: true, description: Requirements or lock file inside the source.}
  gunicorn: {type: str, required: true, description: What to install when the requirements bring no Gunicorn.}
  pip: {type: str, description: "Environment variables of pip, as a JSON object: those for package indexes and proxies."}
  worker_class: {type: str, description: Of Gunicorn; C(gevent) has to be among the requirements.}
  static_directory: {type: str, description: Where static files are, inside the release.}
  static_command: {type: str, description: Command that collects them there.}
  environment_file: {type: path, description: Environment of O(static_command).}
  sandbox: {type: list, elements: str, required: true, description: systemd settings of the cell in which all of that runs.}
  keep: {type: int, default: 3, description: Releases to keep besides those that a slot uses.}
  commit: {type: str, description: What git calls the source; noted in RELEASE.json.}
  lock: {type: path, description: "The play's lock, as farrier_lock took it; held and renewed while this runs."}
  token: {type: str, description: What proves that the lock is ours.}
author: Farrier
"""

RETURN = r"""
present: {description: Whether the release is there now., returned: always, type: bool}
whole: {description: "Whether it has its virtual environment, and the service can enter all of it.", returned: always, type: bool}
path: {description: Directory of the release., returned: always, type: str}
venv: {description: Directory of its virtual environment., returned: when present, type: str}
active: {description: Release that the active slot serves, or null., returned: always, type: str}
removed: {description: Releases that were too old to keep., returned: always, type: list, elements: str}
seconds: {description: How long each step took., returned: always, type: dict}
"""

COMPILE = """
import compileall, sys
sys.pycache_prefix, top, path = sys.argv[1:]
compileall.compile_dir(top, quiet=2, stripdir=top, prependdir=path)
"""
"""Byte code goes where its user may write; what the compiler needs itself is found where it always is."""


class Builder(Workplace):  # type: ignore[misc] # what Ansible finds under its own name has no types
    """Makes one release below `home`."""

    def collect_static(self, top: str, venv: str) -> None:
        """Run the application's command for static files; it may write into their directory alone."""
        directory, command = self.params["static_directory"], self.params["static_command"]
        if not directory:
            return
        static = os.path.join(top, directory)
        with self.step("static", f"`{command}`" if command else f"Publishing {directory}"):
            beneath.make_directory(top, directory)
            if command:
                self.give(top, directory)
                words = shlex.split(command)
                program = os.path.join(venv, "bin", words[0])
                words[0] = program if os.path.exists(program) else words[0]
                settings = of_release(top, venv, self.params["environment_file"])
                self.run(words, f"ReadWritePaths={static}", *settings, data=True, network=True)
            self.take(top, directory)
            archive.links_stay_inside(top, directory)
            if command and not any(files for _, _, files in os.walk(static)):
                raise Failure(f"it left no file in {directory}")
            archive.date_by_content(top, directory)

    def build(self) -> str:
        """Make the release aside, and rename it when it is whole."""
        partial = self.path + ".partial"
        remove(partial)
        os.mkdir(partial)
        os.chmod(partial, 0o755)
        with self.step("unpack", "Unpacking the release"):
            archive.unpack(self.params["archive"], partial, self.account.pw_gid)
            archive.links_stay_inside(partial)
        with self.working():
            environment = VirtualEnvironment(self, partial)
            environment.install()
            venv = str(environment.path)
            self.collect_static(partial, venv)
            with self.step("compile", "Compiling"):
                self.compile(partial, venv)
        self.note(partial, venv)
        os.rename(partial, self.path)
        os.unlink(self.params["archive"])
        self.changed = True
        return venv

    def compile(self, top: str, venv: str) -> None:
        """Make byte code now, because nobody may write it later; by the service's user, because its Python runs its packages."""
        cache = os.path.join(self.workshop, "bytecode")
        python = [os.path.join(venv, "bin", "python"), "-c", COMPILE, cache, top, self.path]
        with contextlib.suppress(Failure):  # a file that does not compile is the application's affair
            self.run(python, f"ReadWritePaths={self.workshop}")
        archive.take_byte_code(top, os.path.join(os.path.basename(self.workshop), "bytecode" + top), self.releases)

    def note(self, top: str, venv: str) -> None:
        """Write what this release is, and what it takes on the disk, into its RELEASE.json."""
        facts = {
            "release": self.release,
            "commit": self.params["commit"],
            "venv": os.path.basename(venv),
            "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "size_mb": max(1, math.ceil(beneath.size_mb(top))),
            "venv_mb": max(1, math.ceil(beneath.size_mb(os.path.realpath(venv)))),
        }
        beneath.write(top, "RELEASE.json", (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())

    def mend(self) -> str:
        """The release is there: see that its virtual environment is too, and that the service can enter it."""
        self.changed |= archive.open_to_all(self.path)
        environment = VirtualEnvironment(self, self.path)
        with contextlib.nullcontext() if environment.whole else self.working():
            environment.install()
        if beneath.read_json(self.path, "RELEASE.json").get("venv") != os.path.basename(environment.path):
            self.note(self.path, environment.path)
        return str(environment.path)

    def prune(self) -> list[str]:
        """Remove what is too old: releases beyond `keep`, leftovers, and virtual environments that none uses."""
        slots = [beneath.read_json(self.home, f"slots/{slot}/slot.json") for slot in "ab"]
        used = {self.release, *(facts.get(key) or "" for facts in slots for key in ("release", "previous"))}
        there = beneath.names(self.releases)
        complete = [name for name in there if configurations.is_id(name)]
        built = {name: beneath.read_json(os.path.join(self.releases, name), "RELEASE.json") for name in complete}
        newest = sorted(complete, key=lambda name: str(built[name].get("built", "")), reverse=True)
        removed = [name for name in newest[self.params["keep"] :] if name not in used]
        for name in there:
            if name in removed or name not in complete:
                remove(os.path.join(self.releases, name))
        venvs = {facts.get("venv") for name, facts in built.items() if name not in removed}
        venvs |= {facts.get("venv") for facts in slots}
        for name in beneath.names(self.venvs):
            if name not in venvs:
                remove(os.path.join(self.venvs, name))
        return removed


def main() -> None:
    """Say whether the release is there; make it when an archive is given."""
    text = {"type": "str"}
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "python": {"type": "str", "default": "python3"},
            "requirements": {"type": "str", "required": True},
            "gunicorn": {"type": "str", "required": True},
            # As one string, so that not each short value of it is masked everywhere.
            "pip": {"type": "str", "no_log": True},
            "worker_class": text,
            "static_directory": text,
            "static_command": text,
            "environment_file": {"type": "path"},
            "sandbox": {"type": "list", "elements": "str", "required": True},
            "keep": {"type": "int", "default": 3},
            "commit": text,
            **LOCK,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    builder = Builder(module.params)
    result: dict[str, Any] = {"changed": False, **state_of(module.params), "removed": [], "seconds": builder.seconds}
    present = result["present"]
    if not present:
        result["diff"] = {"before": "", "after": f"release {builder.release}\n"}
    try:
        with holding(module.params["lock"], module.params["token"]):
            if module.check_mode:
                result["changed"] = not result["whole"]
            else:
                builder.stand()
                if present:
                    result.update(venv=builder.mend(), whole=True)
                elif module.params["archive"]:
                    result.update(venv=builder.build(), present=True, whole=True, removed=builder.prune())
                result["changed"] = builder.changed
    except (Failure, OSError, ValueError, RecursionError) as failure:
        module.fail_json(msg=printable(redacted(f"Release {builder.release}: {failure}")), seconds=builder.seconds)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
