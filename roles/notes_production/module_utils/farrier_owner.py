"""Whose a host is: the mark that a deploy leaves there, and what stands in its way that is somebody else's."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from typing import Any

from ansible.module_utils.farrier_beneath import read_json

HEADER = "Written by Ansible for"
"""Each file of the role's says so in its first lines."""
HEAD_BYTES = 400
"""So many bytes of a file are looked at for that."""
NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
USED_BY_NOBODY = {"lost+found"}
"""What a directory may hold that is just made, or a file system that is just mounted."""


def written_by_us(path: str) -> str | None:
    """The application whose role wrote a file; empty when no role did, None when there is no file."""
    try:
        head = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return ""
    try:
        text = os.read(head, HEAD_BYTES) if stat.S_ISREG(os.fstat(head).st_mode) else b""
    finally:
        os.close(head)
    said = text.decode("utf-8", "replace").partition(HEADER)[2].split()
    return said[0].rstrip(".:;,") if said else ""


class Owner:
    """An application in an environment, as it looks at the host that it is about to come to."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Read the mark, and whether the application was here before hosts had one."""
        self.host, self.application, self.environment = params["host"], params["application"], params["environment"]
        self.domains: list[str] = params["domains"]
        self.take, self.hint = params["take_host"], params["take_host_hint"]
        self.mark = read_json("/etc", f"{self.application}/deployed.json")
        self.here = written_by_us(f"/etc/sysusers.d/{self.application}.conf") == self.application

    def refusals(self) -> list[str]:
        """Why this host must not be touched, as far as it belongs to somebody else."""
        return [*self.user(), *([] if self.take else self.another() or self.strangers())]

    def warnings(self) -> list[str]:
        """What is taken over because it was asked for."""
        return [f"Taken over as asked: {each}" for each in (self.another() or self.strangers()) if self.take]

    def another(self) -> list[str]:
        """The host serves another environment, or another project's application of this name."""
        theirs = self.mark.get("environment")
        names = [str(name)[:255] for name in self.mark.get("domains") or [] if isinstance(name, str)]
        if not isinstance(theirs, str) or (theirs == self.environment and set(names) & set(self.domains)):
            return []
        mine = f"{self.environment} ({', '.join(self.domains)})"
        return [
            f"{self.host} serves {self.application} of {theirs} ({', '.join(names)}), not of {mine}. Is this the right "
            f"inventory? To give the host to {mine} on purpose: {self.hint}"
        ]

    def user(self) -> list[str]:
        """The user or group is somebody else's; systemd-sysusers would put the service into it."""
        name = self.application
        try:
            there = pwd.getpwnam(name)
        except KeyError:
            with contextlib.suppress(KeyError):
                grp.getgrnam(name)
                return [] if self.here else [self.taken(f"a group {name}", "rights that are not its own")]
            return []
        home = f"/var/lib/{name}"
        with contextlib.suppress(KeyError):
            group = grp.getgrgid(there.pw_gid).gr_name
            made = (there.pw_dir, there.pw_gecos, group) == (home, name, name) and there.pw_shell in NO_LOGIN
            if self.here and made and there.pw_uid:
                return []
        return [self.taken(f"a user {name} ({there.pw_dir}, {there.pw_shell})", "another's rights and files")]

    def taken(self, what: str, gain: str) -> str:
        """The sentence for a user or a group."""
        return (
            f"{self.host} has {what} that this role did not make, so the application would run with {gain}. Give the "
            "application another name in farrier.yml, or rename or remove the other one."
        )

    def strangers(self) -> list[str]:
        """Directories and files that this application's would replace, and that are not its own."""
        if self.here or self.mark:
            return []
        name = self.application
        found = [each for each in (f"/srv/{name}", f"/var/lib/{name}", f"/etc/{name}") if in_use(each)]
        if os.path.lexists(f"/run/{name}.sock"):
            found.append(f"/run/{name}.sock")
        units = (".service", ".socket", "@.service", "-activate.service", "-preflight.service")
        files = [f"{directory}/{name}{unit}" for directory in UNIT_DIRECTORIES for unit in units]
        files += [
            f"/etc/nginx/sites-available/{name}",
            f"/etc/nginx/sites-enabled/{name}",
            f"/usr/local/bin/{name}-status",
        ]
        files += [f"/etc/sysctl.d/90-{name}.conf", f"/etc/sysusers.d/{name}.conf"]
        found += [path for path in files if written_by_us(path) not in (None, name)]
        if not found:
            return []
        return [
            f"{self.host} already has {', '.join(found)}, which this role did not make. Give the application another name "
            f"in farrier.yml, or move them away. To let the application take them over: {self.hint}"
        ]


def in_use(path: str) -> bool:
    """Whether something other than an empty directory is there; a link is."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return True
        with os.scandir(path) as entries:
            return any(entry.name not in USED_BY_NOBODY for entry in entries)
    except OSError:
        return False
