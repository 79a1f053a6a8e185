"""NGINX with all of the host's sites, tried before anything is changed, and who else listens on its ports."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from typing import Any

from ansible.module_utils.farrier_host import output
from ansible.module_utils.farrier_owner import written_by_us

TOP = "/etc/nginx"
LOGS = "/var/log/nginx"
PROGRAM = "/usr/sbin/nginx"
SAID = 2000
"""So many characters of what NGINX says are shown."""


def has_ipv6() -> bool:
    """Whether a program may listen on [::]."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def listening(files: list[dict[str, Any]], ipv6: bool) -> list[dict[str, Any]]:
    """Files of the role as they are on a host with or without IPv6: they were rendered before anybody could know."""
    if ipv6:
        return files
    return [{**each, "content": without_ipv6(each["content"])} if each.get("content") else each for each in files]


def without_ipv6(text: str) -> str:
    """A file of NGINX that listens on IPv4 only."""
    return re.sub(r"(?m)^ *listen \[::\].*\n", "", text)


def lay_out(place: str, files: list[dict[str, Any]]) -> None:
    """The tree of NGINX in another place: these files as they will be, all else as links to what is there."""
    under = {os.path.relpath(each["path"], TOP): each for each in files}
    own = {os.path.dirname(path) for path in under}

    def link_all(relative: str) -> None:
        there = os.path.join(TOP, relative)
        os.makedirs(os.path.join(place, relative), exist_ok=True)
        for name in os.listdir(there) if os.path.isdir(there) else []:
            path = os.path.normpath(os.path.join(relative, name))
            if path in own:
                link_all(path)
            elif path not in under:
                os.symlink(os.path.join(TOP, path), os.path.join(place, path))

    link_all("")
    os.mkdir(os.path.join(place, "log"))
    for path, each in under.items():
        target = os.path.join(place, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if each.get("link"):
            os.symlink(each["link"], target)
        elif each.get("content") is not None:
            with open(target, "w", encoding="utf-8") as file:
                file.write(moved(each["content"], place))


def moved(text: str, place: str) -> str:
    """A file of the role's that reads and writes in that place only."""
    text = text.replace(f"{TOP}/", f"{place}/").replace(f"{LOGS}/", f"{place}/log/")
    return re.sub(r"^pid .*;$", f"pid {place}/nginx.pid;", text, flags=re.MULTILINE)


def trial(host: str, files: list[dict[str, Any]], domains: list[str]) -> list[str]:
    """What NGINX says of the new configuration together with the host's other sites, if it would refuse it."""
    if not os.access(PROGRAM, os.X_OK):
        return []
    place = os.path.realpath(tempfile.mkdtemp(prefix="farrier-nginx-"))
    try:
        lay_out(place, files)
        command = [PROGRAM, "-t", "-c", f"{place}/nginx.conf"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd="/")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    said = done.stderr.replace(f"{place}/log", LOGS).replace(place, TOP)
    if done.returncode:
        wrong = " ".join(re.findall(r"\[emerg\] (?:\d+#\d+: )?(.*)", said)) or said.strip()
        return [f"{host}: NGINX refuses its new configuration with the host's other sites: {wrong[:SAID]}.{cure(said)}"]
    # NGINX only warns of this, and one of the two sites is never seen.
    twice = sorted(set(re.findall(r'conflicting server name "([^"]+)" on', said)) & set(domains))
    return [
        f"{host}: another site of NGINX has the name {name} too; take it out of that one (grep -r {name} {TOP})."
        for name in twice
    ]


def cure(said: str) -> str:
    """What to do about the refusals that another site causes."""
    if "duplicate default server" in said or "duplicate listen options" in said:
        return (
            " This role answers requests for unknown names itself and sets the length of the queue: take `default_server` "
            "and options such as `backlog` and `ipv6only` out of the other site's `listen`."
        )
    return ""


def other_application(host: str, application: str, take: bool, hint: str) -> list[str]:
    """NGINX as a whole is described by another application's role: both would write nginx.conf in turns."""
    theirs = written_by_us(f"{TOP}/nginx.conf")
    if take or not theirs or theirs == application:
        return []
    return [
        f"NGINX on {host} is configured by the role of {theirs}, another application, and each would undo what the other "
        f"needs: give {application} a host of its own. If {theirs} is no longer served there, remove its site "
        f"({TOP}/sites-enabled/{theirs}) and go on: {hint}"
    ]


def listeners(ports: list[int], listing: str) -> dict[int, tuple[str, int]]:
    """Program and process id of who listens on each of the ports, out of `ss -lntpH`."""
    found = {}
    for line in listing.splitlines():
        words = line.split()
        port = words[3].rpartition(":")[2] if len(words) > 3 else ""
        if port.isdigit() and int(port) in ports:
            who = re.search(r'\(\("([^"]*)",pid=(\d+)', line)
            found[int(port)] = (who[1], int(who[2])) if who else ("another program", 0)
    return found


def ports_taken(host: str, ports: list[int]) -> list[str]:
    """The ports of NGINX that another program has, or another NGINX than Debian's."""
    if not shutil.which("ss"):  # it is among the packages that are installed, and then this is asked again
        return []
    listing = output("ss", "-lntpH")
    refused = []
    for port, (name, pid) in sorted(listeners(ports, listing).items()):
        try:
            program = os.readlink(f"/proc/{pid}/exe").replace(" (deleted)", "")
        except OSError:
            program = ""
        if program != PROGRAM:
            who = f"{program or name} (process {pid})" if pid else name
            refused.append(f"{host}: {who} listens on port {port}, which NGINX needs ({PROGRAM}). Stop it, or move it.")
    return refused
