#!/usr/bin/python
"""Bring a set of files into place in one call: all of them, validated together, or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_entries import FileEntry, compared, difference, put
from ansible.module_utils.farrier_owner import written_by_us

DOCUMENTATION = r"""
module: farrier_files
short_description: Bring a set of files into place in one call
description:
  - Writes files, links and removals as one set. Each file is replaced atomically.
  - When something changed, O(validate) runs with the whole new set in place; if it fails, the old set is put back.
options:
  files:
    description: The set. An entry is a file (O(files[].content)), a symbolic link (O(files[].link)) or an absence.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {type: path, required: true, description: Absolute path.}
      content: {type: str, description: Text of the file.}
      link: {type: str, description: Target of a symbolic link.}
      state: {type: str, choices: [present, absent], default: present, description: Whether it should be there.}
      mode: {type: str, description: "Octal mode of the file, 0644 unless given."}
      owner: {type: str, description: "Owner of the file, root unless given."}
      group: {type: str, description: "Group of the file, root unless given."}
      sensitive: {type: bool, default: false, description: Never show the content in a diff.}
      backup: {type: path, description: "Where a file that somebody has edited is kept, once, before it is replaced for the first time."}
  validate: {type: list, elements: str, default: [], description: Command that must succeed with the new set in place.}
  apply:
    description:
      - Command that makes what reads the files use them, run after O(validate).
      - The set counts as changed until it has succeeded, also when the play was killed before. O(pending) remembers that.
    type: list
    elements: str
    default: []
  pending: {type: path, description: "Mark that exists while O(apply) is owed. Below /run, as a reboot makes everything read its files."}
author: Farrier
"""

RETURN = r"""
changed_paths: {description: What differed from the wanted set., returned: always, type: list, elements: str}
"""

DPKG_STATUS = "/var/lib/dpkg/status"


def packaged(path: str) -> str:
    """The checksum of a configuration file as its package brought it; empty when no package did."""
    with contextlib.suppress(OSError), open(DPKG_STATUS, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = re.match(r" (/\S+) ([0-9a-f]{32})\b", line)
            if found and found[1] == path:
                return found[2]
    return ""


def edited(before: FileEntry) -> bool:
    """Whether somebody has put work into a file: neither a role nor its package wrote it like this."""
    if before.kind != "file" or written_by_us(before.path):
        return False
    return hashlib.md5(before.content).hexdigest() != packaged(before.path)


def keep(pairs: list[tuple[FileEntry, FileEntry]]) -> list[str]:
    """Keep a copy of each file that somebody edited and that is replaced now; what was kept, in words."""
    kept = []
    for before, after in pairs:
        if after.backup and edited(before) and not os.path.lexists(after.backup):
            put(replace(before, path=after.backup))
            kept.append(
                f"{before.path} was edited on this host and has been replaced; the edited version is kept as {after.backup}."
            )
    return kept


def refusal(command: list[str]) -> str:
    """Run a command; return what it said if it failed, else nothing."""
    if not command:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    said = (done.stderr + done.stdout).strip() or f"{' '.join(command)} ended with status {done.returncode}"
    return said if done.returncode else ""


def replace_set(pairs: list[tuple[FileEntry, FileEntry]], command: list[str]) -> str:
    """Put the second of each pair into place; on any failure put the first ones back and return why."""
    done: list[FileEntry] = []
    try:
        for before, after in pairs:
            done.append(before)
            put(after)
        problem = refusal(command)
    except (OSError, KeyError) as error:
        problem = str(error)
    if problem:
        for before in reversed(done):
            put(before)
    return problem


ENTRY: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "link": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "mode": {"type": "str"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "sensitive": {"type": "bool", "default": False},
    "backup": {"type": "path"},
}


def main() -> None:
    """Compare, show, and unless in check mode bring the set into place."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": ENTRY},
            "validate": {"type": "list", "elements": "str", "default": []},
            "apply": {"type": "list", "elements": "str", "default": []},
            "pending": {"type": "path"},
        },
        supports_check_mode=True,
    )
    pending = module.params["pending"]
    # Ansible shows the arguments of a module at -vvv.
    module.no_log_values.update(
        each["content"] for each in module.params["files"] if each["sensitive"] and each["content"]
    )
    try:
        pairs = compared(module.params["files"])
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    changes = [(before, after) for before, after in pairs if not before.same_as(after)]
    left_over = bool(pending) and os.path.exists(pending)
    result: dict[str, Any] = {
        "changed": bool(changes) or left_over,
        "changed_paths": [after.path for _, after in changes],
        "diff": [difference(before, after) for before, after in changes],
    }
    if result["changed"] and not module.check_mode:
        if pending:
            put(FileEntry(pending, "file"))
        for each in keep(changes):
            module.warn(each)
        problem = replace_set(changes, module.params["validate"])
        if problem:
            if pending and not left_over:
                os.unlink(pending)
            module.fail_json(msg=f"The new files were rejected; the old ones are back in place: {problem}")
        problem = refusal(module.params["apply"])
        if problem:
            module.fail_json(msg=f"The new files are in place but not in use: {problem}")
        if pending:
            os.unlink(pending)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
