"""A throw-away host that runs the example application, deployed as a user would deploy it."""

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tricky import TRICKY

ROOT = Path(__file__).resolve().parents[2]
HOST_TOOL = ROOT / "templates" / "molecule" / "molecule" / "shared" / "host.py"
EXAMPLE = ROOT / "examples" / "django"
ENVIRONMENT = "trial"
DOMAIN = "trial.example.org"
PLAY = ("ansible-playbook", "-i", "inventory.yml")
DEPLOY_SECONDS = 300
SECRET = "of-a-host-that-lives-for-a-minute"
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """One answer through NGINX, and when it came; times are those of the monotonic clock."""

    status: int
    headers: Mapping[str, str]
    body: str
    asked: float
    answered: float

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return self.answered - self.asked


@dataclass
class Deployed:
    """The running stack, seen from a client and from an operator's shell."""

    name: str
    project: Path
    http_port: int
    ssh: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def get(self, path: str, connection: http.client.HTTPConnection | None = None) -> Answer:
        """Asks NGINX for a page, on the given connection or on one of its own."""
        return self.ask("GET", path, connection=connection)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Sends one request to NGINX and waits for the whole answer."""
        connection = connection or self.connect()
        asked = time.monotonic()
        try:
            # A body may be refused before all of it was sent; the answer is there all the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                sent = {"Host": DOMAIN, "Connection": "close", **(headers or {})}
                connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            received = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, received, text, asked, time.monotonic())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """A connection to NGINX on which nothing has been asked yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_SECONDS)
        connection.connect()
        return connection

    def shell(self, command: str) -> str:
        """What a command prints that root runs on the host."""
        return run([*self.ssh, f"sudo sh -c {shlex.quote(command)}"], ROOT)

    def play(self, *arguments: str) -> str:
        """Runs the generated playbook."""
        return run([*PLAY, f"playbooks/{ENVIRONMENT}.yml", *arguments], self.project)


@contextmanager
def deployed(
    name: str,
    project: Path,
    workload: Mapping[str, Any],
    overrides: Mapping[str, Any],
    memory_mb: int = 768,
    prepare: Callable[[Path], object] = lambda _project: None,
) -> Iterator[Deployed]:
    """The example application on a host of its own, which is gone afterwards; `prepare` may change the project first."""
    limits = ["--cpus", "1", "--memory-mb", str(memory_mb)]
    host = json.loads(run([sys.executable, str(HOST_TOOL), "up", name, *limits], ROOT))
    try:
        write_project(project, host, workload, overrides)
        prepare(project)
        farrier(project, "facts", ENVIRONMENT)
        farrier(project, "generate", ENVIRONMENT)
        plan = json.loads(farrier(project, "plan", ENVIRONMENT, "--json"))
        settings = {key: setting["value"] for key, setting in plan["hosts"][name]["settings"].items()}
        stack = Deployed(name, project, host["http_port"], ssh_command(host, project), settings)
        stack.play()
        yield stack
    finally:
        run([sys.executable, str(HOST_TOOL), "down", name], ROOT)


def ssh_command(host: Mapping[str, Any], project: Path) -> Sequence[str]:
    """How a command is run on a host, over one connection for all: tests ask a host hundreds of things."""
    shared = f"-o ControlMaster=auto -o ControlPersist=30 -o ControlPath={project}/ssh"
    # A connection that a reboot has cut without a word is given up.
    options = f"{host['ssh_options']} {shared} -o ServerAliveInterval=2 -o ConnectTimeout=5"
    return (
        *("ssh", *options.split(), "-i", host["private_key"]),
        *("-p", str(host["ssh_port"]), f"{host['user']}@{host['ssh_host']}"),
    )


def write_project(
    project: Path, host: Mapping[str, Any], workload: Mapping[str, Any], overrides: Mapping[str, Any]
) -> None:
    """A project directory as somebody keeps it in git, with one host in its inventory."""
    shutil.copytree(
        EXAMPLE,
        project / "app",
        ignore=shutil.ignore_patterns("__pycache__", "db.sqlite3*", "media", "static_root"),
    )
    description = {
        "application": {
            "name": "notes",
            "source": "app",
            "wsgi": "notes.wsgi:application",
            "requirements": "requirements.txt",
            "health_path": "/health/",
            "migrate": "python manage.py migrate --noinput",
            "static": {
                "url": "/static/",
                "directory": "static_root",
                "command": "python manage.py collectstatic --noinput",
            },
            "environment": {"NOTES_DATA": "/var/lib/notes", **TRICKY},
            "secrets": ["SECRET_KEY"],
        },
        "environments": {
            ENVIRONMENT: {
                "inventory": "inventory.yml",
                "domain": DOMAIN,
                "environment": {"ALLOWED_HOSTS": DOMAIN},
                "workload": dict(workload),
                "overrides": dict(overrides),
            }
        },
    }
    secrets = {f"notes_{ENVIRONMENT}_secrets": {"SECRET_KEY": SECRET}}
    inventory = {"all": {"hosts": {host["name"]: host["inventory"]}, "vars": secrets}}
    (project / "ansible.cfg").write_text("[defaults]\nroles_path = roles\n", encoding="utf-8")
    (project / "farrier.yml").write_text(yaml.safe_dump(description), encoding="utf-8")
    (project / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")


def one_module(name: str, arguments: str) -> list[str]:
    """The call of one of the role's modules by itself, or of one that only Farrier has."""
    role = f"roles/notes_{ENVIRONMENT}"
    library = f"ANSIBLE_LIBRARY={role}/library:{ROOT}/generator/farrier/ansible/modules"
    found = ["env", f"ANSIBLE_MODULE_UTILS={role}/module_utils", library]
    return [*found, "ansible", "all", "-i", "inventory.yml", "-b", "-m", name, "-a", arguments]


def farrier(project: Path, *arguments: str) -> str:
    """What Farrier prints."""
    return run([sys.executable, "-m", "farrier", *arguments], project)


def run(command: Sequence[str], directory: Path) -> str:
    """What a command prints; a failed one shows all it said."""
    result = attempt(command, directory)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def attempt(command: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command that may fail."""
    return subprocess.run(
        command,
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEPLOY_SECONDS,
        check=False,
    )


def environment() -> dict[str, str]:
    """What our programs and Ansible's find in their environment."""
    scripts = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "ANSIBLE_PIPELINING": "1"}
