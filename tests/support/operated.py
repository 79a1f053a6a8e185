"""An operator at a deployed host: other releases, plays that run beside each other, and files changed by hand."""

import os
import pwd
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import testbed
from deployed import Deployed
from testbed import ENVIRONMENT, EXAMPLE, PLAY, environment

PATIENCE_SECONDS = 120
METRICS = "/var/lib/prometheus/node-exporter"


def prepare(stack: Deployed) -> None:
    """All that can be switched on in an environment is."""
    path = stack.project / "farrier.yml"
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    description["environments"][ENVIRONMENT].update({"release_header": True, "metrics_directory": METRICS})
    testbed.write_yaml(path, description)


@contextmanager
def second_host(stack: Deployed, name: str, **variables: str) -> Iterator[Deployed]:
    """A second host of the environment, like the planned one, on which nothing was ever deployed."""
    planned = {f"notes_{ENVIRONMENT}_planned_hosts": [name]}  # as if there were facts of it

    def more(inventory: Any) -> None:
        inventory["all"]["hosts"][name] = {**host.inventory, **planned, **variables}

    with testbed.host(name, cpus=1, memory_mb=768) as host, edited(stack.project / "inventory.yml", more):
        yield Deployed(**vars(host), project=stack.project)


@contextmanager
def edited(path: Path, change: Callable[[Any], object]) -> Iterator[None]:
    """A YAML file of the project with something else in it; later as it was."""
    before = path.read_text(encoding="utf-8")
    document = yaml.safe_load(before)
    change(document)
    testbed.write_yaml(path, document)
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def login() -> str:
    """Who deploys here, as the role names them."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or pwd.getpwuid(os.getuid()).pw_name


def write_release(stack: Deployed, text: str) -> None:
    """Makes another release of the project: this at the end of its WSGI module."""
    original = (EXAMPLE / "notes/wsgi.py").read_text(encoding="utf-8")
    (stack.project / "app/notes/wsgi.py").write_text(f"{original}\n{text}\n", encoding="utf-8")


@contextmanager
def playing(stack: Deployed, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The playbook as it runs, in a process group of its own; at the end it has ended."""
    process = subprocess.Popen(
        [*PLAY, f"playbooks/{ENVIRONMENT}.yml", *arguments],
        cwd=stack.project,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with process:
        yield process


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up, f"within {PATIENCE_SECONDS} s not: {what}"
        time.sleep(0.2)


@contextmanager
def altered(path: Path, old: str, new: str) -> Iterator[None]:
    """A file of the project with something else in it; later as it was."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name} does not hold {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


@contextmanager
def restarted_with(stack: Deployed, old: str, new: str) -> Iterator[None]:
    """The active slot with something else in its Gunicorn configuration; later as it was."""
    config, slot = "/srv/notes/active/gunicorn.conf.py", "notes@$(basename $(readlink /srv/notes/active))"
    change = shlex.quote(f"s\x01{old}\x01{new}\x01")
    stack.shell(f"cp {config} /root/kept && sed -i {change} {config} && ! cmp -s {config} /root/kept")
    try:
        stack.shell(f"systemctl restart {slot}")
        yield
    finally:
        stack.shell(f"cp /root/kept {config} && systemctl restart {slot}")
