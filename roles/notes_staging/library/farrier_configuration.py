#!/usr/bin/python
"""Lay out what the application is started with besides its release, aside, so that a switch can take it or leave it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_host import LOCK, Failure, holding, output

DOCUMENTATION = r"""
module: farrier_configuration
short_description: Lay out a configuration of the application that a switch can take
description:
  - Compares environment and Gunicorn's configuration with those of the active slot. Where they differ, they become a configuration
    of their own, C(configurations/<id>) below O(home), which serves when farrier_switch has switched to it.
  - Nothing that serves is changed. No value of the environment is shown or logged.
options:
  application: {type: str, required: true, description: Name of the application.}
  home: {type: path, required: true, description: Directory that holds C(configurations) and C(slots).}
  state: {type: str, choices: [present, absent], default: present, description: "Lay it out, or remove one that does not serve."}
  environment: {type: str, description: "Content of C(environment), systemd's EnvironmentFile."}
  gunicorn: {type: str, description: Content of C(gunicorn.conf.py).}
  configuration: {type: str, description: Which one to remove.}
  lock: {type: path, description: "The play's lock, as farrier_lock took it; held and renewed while this runs."}
  token: {type: str, description: What proves that the lock is ours.}
author: Farrier
"""

RETURN = r"""
configuration: {description: "What a switch has to be told, or null in check mode.", returned: when present, type: str}
path: {description: Its directory., returned: when present, type: str}
candidate: {description: Whether it was laid out and does not serve yet., returned: when present, type: bool}
differs: {description: "Its files that differ from the active slot's.", returned: when present, type: list, elements: str}
"""

OLD_PLACE = "/etc"
"""Below it, in a directory of the application's, the two files once stood before they served."""

NGINX_SITES = "/etc/nginx/sites-enabled"


def difference(found: dict[str, bytes], new: dict[str, bytes], names: list[str]) -> list[dict[str, str]]:
    """Ansible's diff; of the environment only that it changed."""
    hidden = {"before": "(not shown)\n" if found.get("environment") else "", "after": "(not shown, changed)\n"}
    shown = []
    for name in names:
        before, after = (files.get(name, b"").decode("utf-8", "replace") for files in (found, new))
        texts = hidden if name == "environment" else {"before": before, "after": after}
        shown.append({"before_header": name, "after_header": name, **texts})
    return shown


def present(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Compare, and lay out what differs; what earlier plays left is taken over or removed."""
    home = params["home"]
    new = {"environment": params["environment"].encode(), "gunicorn.conf.py": params["gunicorn"].encode()}
    taken = False
    if not check:
        taken = configurations.take_over(home)
        forget_old_place(params["application"])
        configurations.prune(home)
    slot = configurations.active_slot(home)
    name = configurations.slot_facts(home, slot).get("configuration") if slot else None
    # Before it is taken over a slot has only its copies.
    found = configurations.content(home, f"configurations/{name}" if name else f"slots/{slot or 'none'}")
    names = configurations.differing(found, new)
    if names:
        name = None if check else configurations.lay_out(home, new)
    result = {"configuration": name, "path": os.path.join(home, "configurations", name or "none"), "differs": names}
    shown = difference(found, new, names)
    return {**result, "changed": taken or bool(names), "candidate": bool(names), "diff": shown}


def forget_old_place(application: str) -> None:
    """Remove the files that earlier roles wrote below /etc: a slot has its copies, and a play would not change these again."""
    directory = os.path.join(OLD_PLACE, application)
    for name in configurations.MODES:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(os.path.join(directory, name))
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def absent(params: dict[str, Any]) -> bool:
    """Remove a configuration that no slot names; on a host where nothing serves yet, what a first deploy has switched on, too."""
    home, name = params["home"], params["configuration"]
    if not configurations.is_id(name):
        raise Failure(f"{name}: not the name of a configuration, which has 12 hex digits")
    there = os.path.isdir(os.path.join(home, "configurations", name)) and name not in configurations.used(home)
    if there:
        configurations.remove(home, name)
    if not configurations.active_slot(home):
        withdraw(params["application"])
    return there


def withdraw(application: str) -> None:
    """Switch off what would serve nobody: the site, the socket and what it activates."""
    site = os.path.join(NGINX_SITES, application)
    if os.path.lexists(site):
        os.unlink(site)
        output("systemctl", "try-reload-or-restart", "nginx.service")
    units = [f"{application}.socket", f"{application}-activate.service"]
    output("systemctl", "disable", "--quiet", *units)
    # The socket refuses to be stopped by hand; what conflicts with it may.
    conflict = [f"--property=Conflicts={units[0]}", f"--property=After={units[0]}"]
    output("systemd-run", "--wait", "--collect", "--quiet", *conflict, "--", "/bin/true")


def main() -> None:
    """Lay a configuration out, or remove one that was not taken."""
    text = {"type": "str"}
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "environment": {"type": "str", "no_log": True},
            "gunicorn": text,
            "configuration": text,
            **LOCK,
        },
        required_if=[("state", "present", ("environment", "gunicorn")), ("state", "absent", ("configuration",))],
        supports_check_mode=True,
    )
    os.umask(0o022)
    params, check = module.params, module.check_mode
    try:
        with holding(params["lock"], params["token"]):
            wish = params["state"]
            result = present(params, check) if wish == "present" else {"changed": not check and absent(params)}
    except (Failure, OSError) as failure:
        module.fail_json(msg=str(failure))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
