#!/usr/bin/python
"""Make a release on the host from a packed source: unpacked, with its virtual environment and its static files."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_play import Failure, holding

DOCUMENTATION = r"""
module: farrier_release
short_description: Make an immutable release of the application
description:
  - A release is built aside as C(releases/<id>.partial) and renamed when it is whole, so an interrupted build leaves nothing in use.
  - Its virtual environment is named by the Python version and the content of the requirements; releases that agree share it.
  - The application's own code (pip, O(static_command)) runs as O(user), never as root. A finished release belongs to root.
  - Without O(archive) it only says whether the release is there, and mends a virtual environment that is missing.
options:
  release: {type: str, required: true, description: Name of the release, as farrier_source gives it.}
  archive: {type: path, description: The packed source, on this host; removed when the release is made.}
  home: {type: path, required: true, description: Directory that holds C(releases), C(venvs) and C(slots).}
  user: {type: str, required: true, description: User who runs the application.}
  python: {type: str, default: python3, description: Interpreter for the virtual environment.}
  requirements: {type: str, required: true, description: Requirements or lock file inside the source.}
  gunicorn: {type: str, required: true, description: What to install when the requirements bring no Gunicorn.}
  worker_class: {type: str, description: Of Gunicorn; C(gevent) has to be among the requirements.}
  static_directory: {type: str, description: Where static files are, inside the release.}
  static_command: {type: str, description: Command that collects them there.}
  environment_file: {type: path, description: Environment of O(static_command).}
  sandbox: {type: list, elements: str, default: [], description: systemd settings under which O(static_command) runs.}
  keep: {type: int, default: 3, description: Releases to keep besides those that a slot uses.}
  commit: {type: str, description: What git calls the source; noted in RELEASE.json.}
  lock: {type: path, description: "The play's lock, as farrier_lock took it; held and renewed while this runs."}
  token: {type: str, description: What proves that the lock is ours.}
author: Farrier
"""

EXAMPLES = r"""
- name: The release is made
  farrier_release:
    release: 0123456789ab
    archive: /srv/notes/releases/0123456789ab.tar.gz
    home: /srv/notes
    user: notes
    requirements: requirements.txt
    gunicorn: gunicorn==27.0.1
"""

RETURN = r"""
present: {description: Whether the release is there now., returned: always, type: bool}
path: {description: Directory of the release., returned: always, type: str}
venv: {description: Directory of its virtual environment., returned: when present, type: str}
active: {description: Release that the active slot serves, or null., returned: always, type: str}
removed: {description: Releases that were too old to keep., returned: always, type: list, elements: str}
seconds: {description: How long each step took., returned: always, type: dict}
"""

PASSED_ON = re.compile(r"PIP_\w+|(https?|no|all)_proxy|SSL_CERT_\w+|REQUESTS_CA_BUNDLE", re.IGNORECASE)
"""Variables of the play's own `environment:` that pip sees, for package indexes and proxies."""

LAST_LINES = 40
"""How much of a failed command's output is shown."""


def run(command: list[str]) -> str:
    """Run a command and return its output; a failure carries the end of it."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
    )
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-LAST_LINES:])
        raise Failure(tail or f"it ended with status {done.returncode}")
    return done.stdout


def as_user(user: str, properties: list[str], command: list[str]) -> str:
    """Run the application's own code as a transient service: its user, its sandbox, none of our environment."""
    settings = [f"--property={each}" for each in [f"User={user}", f"Group={user}", *properties]]
    literal = [word.replace("$", "$$") for word in command]  # systemd expands variables in the words of a command
    return run(["systemd-run", "--wait", "--pipe", "--collect", "--quiet", *settings, "--", *literal])


def requirement_files(top: str, name: str, seen: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The requirements file and every file it includes with -r or -c, with their content."""
    seen = {} if seen is None else seen
    path = os.path.normpath(name)
    if path in seen:
        return seen
    if path.startswith(("/", "..")):
        raise Failure(f"{name}: requirements must lie inside the source")
    try:
        with open(os.path.join(top, path), "rb") as file:
            seen[path] = file.read()
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}; it is named as the application's requirements") from None
    for number, line in enumerate(seen[path].decode("utf-8", "replace").splitlines(), 1):
        if re.match(r"\s*(-e|--editable)\b", line):
            raise Failure(f"{path}, line {number}: {line.strip()}: an editable install cannot be shared by releases")
        included = re.match(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]*([^\s#]+)", line)
        if included and "://" not in included.group(1):
            requirement_files(top, os.path.join(os.path.dirname(path), included.group(1)), seen)
    return seen


def venv_key(files: dict[str, bytes], python: str, gunicorn: str, release: str) -> str:
    """Name of the virtual environment: 12 hex digits over all that decides what is in it."""
    parts = [python.encode(), gunicorn.encode()]
    for path in sorted(files):
        parts += [path.encode(), files[path]]
    if any(re.search(rb"(?m)^\s*(\.|file:)|@ *file:", content) for content in files.values()):
        parts.append(release.encode())  # it installs something out of the release itself
    return hashlib.sha256(b"".join(b"%d:" % len(part) + part for part in parts)).hexdigest()[:12]


def unpack(archive: str, directory: str) -> None:
    """Unpack regular files and links that stay inside; anything else is not from farrier_source."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.name.startswith("/") or ".." in parts or not (member.isfile() or member.issym()):
                raise Failure(f"{member.name}: the archive holds something that does not belong into a release")
            target = os.path.join(directory, member.name)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            if member.issym():
                os.symlink(member.linkname, target)
                continue
            source = tar.extractfile(member)
            with open(target, "xb") as file:
                if source:
                    shutil.copyfileobj(source, file)
            os.chmod(target, 0o755 if member.mode & 0o100 else 0o644)
            os.utime(target, (member.mtime, member.mtime))


def give(top: str, user: str, read_only: bool) -> None:
    """Give a tree to a user; a finished one can be read by everybody and written by nobody but root."""
    account = pwd.getpwnam(user)
    for directory, names, files in os.walk(top):
        for path in [directory, *(os.path.join(directory, name) for name in files + names)]:
            os.lchown(path, account.pw_uid, account.pw_gid)
            if read_only and not os.path.islink(path):
                mode = os.lstat(path).st_mode
                os.chmod(path, 0o755 if mode & 0o100 else 0o644)


def date_by_content(top: str) -> None:
    """Date every static file by its content, because NGINX's ETag is made of a file's date and size.

    A changed file then always has another ETag, and an unchanged one keeps it over releases and on every host.
    """
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                continue
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            date = 1_000_000_000 + int(digest[:7], 16)
            os.utime(path, (date, date))


class Builder:
    """Makes one release below `home`."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Keep what the play asks for."""
        self.params = params
        self.release: str = params["release"]
        self.user: str = params["user"]
        self.releases = os.path.join(params["home"], "releases")
        self.venvs = os.path.join(params["home"], "venvs")
        self.path = os.path.join(self.releases, self.release)
        self.seconds: dict[str, float] = {}
        self.changed = False

    @contextlib.contextmanager
    def step(self, name: str, what: str) -> Any:
        """Time a step, and say which one failed."""
        begun = time.monotonic()
        try:
            yield
        except Failure as failure:
            raise Failure(f"{what} failed: {failure}") from None
        self.seconds[name] = round(time.monotonic() - begun, 2)

    def venv(self, top: str) -> str:
        """Directory of the virtual environment that the requirements below `top` ask for."""
        code = "import platform, sys; print(sys.implementation.cache_tag, platform.machine())"
        interpreter = shutil.which(self.params["python"]) or self.params["python"]
        if os.path.realpath(interpreter) == os.path.realpath(sys.executable):
            python = f"{sys.implementation.cache_tag} {platform.machine()}"
        else:
            python = run([interpreter, "-c", code]).strip()
        files = requirement_files(top, self.params["requirements"])
        return os.path.join(self.venvs, venv_key(files, python, self.params["gunicorn"], self.release))

    def install(self, venv: str, top: str) -> None:
        """Build the virtual environment unless a whole one is there; a mark written last says so. It must hold what is needed."""
        mark = os.path.join(venv, ".complete")
        if not os.path.exists(mark):
            self.make(venv, top, mark)
        for package in ("gevent", "packaging"):  # Gunicorn's gevent worker imports both
            self.require(venv, package)

    def require(self, venv: str, package: str) -> None:
        """Refuse an environment without what the worker class needs."""
        found = glob.glob(os.path.join(glob.escape(venv), "lib", "python*", "site-packages", f"{package}-*.dist-info"))
        if self.params["worker_class"] == "gevent" and not found:
            raise Failure(
                f"{self.params['requirements']} brings no {package}, which gunicorn.worker_class gevent needs: add it there, or "
                "take that override back"
            )

    def make(self, venv: str, top: str, mark: str) -> None:
        """Build the virtual environment from the requirements."""
        self.changed = True
        shutil.rmtree(venv, ignore_errors=True)
        os.makedirs(venv, mode=0o755)
        give(venv, self.user, read_only=False)
        outside = [f"Environment={shlex.quote(k + '=' + v)}" for k, v in os.environ.items() if PASSED_ON.fullmatch(k)]
        cell = [
            "PrivateTmp=yes",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            f"ReadWritePaths={venv}",
            *outside,
        ]
        cell += [f"WorkingDirectory={top}", "Environment=HOME=/tmp"]
        python = os.path.join(venv, "bin", "python")
        pip = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--no-cache-dir",
            "--disable-pip-version-check",
        ]
        with self.step("venv", "Making the virtual environment"):
            as_user(self.user, cell, [shutil.which(self.params["python"]) or "python3", "-m", "venv", venv])
        with self.step("pip", f"Installing {self.params['requirements']} with pip"):
            as_user(self.user, cell, [*pip, "-r", self.params["requirements"]])
        self.require(venv, "gevent")  # of the application's choice, before Gunicorn brings any
        own = [name for _, names, _ in os.walk(venv) for name in names if name.startswith("gunicorn-")]
        if not own:
            with self.step("gunicorn", f"Installing {self.params['gunicorn']} with pip"):
                as_user(self.user, cell, [*pip, self.params["gunicorn"]])
        give(venv, "root", read_only=True)
        with open(mark, "w", encoding="utf-8"):
            pass

    def collect_static(self, top: str, venv: str) -> None:
        """Run the application's command for static files; it may write into their directory alone."""
        directory, command = self.params["static_directory"], self.params["static_command"]
        if not directory:
            return
        static = os.path.join(top, directory)
        os.makedirs(static, mode=0o755, exist_ok=True)
        if command:
            give(static, self.user, read_only=False)
            words = shlex.split(command)
            program = os.path.join(venv, "bin", words[0])
            words[0] = program if os.path.exists(program) else words[0]
            cell = [*self.params["sandbox"], f"WorkingDirectory={top}", f"ReadWritePaths={static}"]
            cell.append(f"Environment=PATH={venv}/bin:/usr/local/bin:/usr/bin:/bin")
            if self.params["environment_file"]:
                cell.append(f"EnvironmentFile={self.params['environment_file']}")
            with self.step("static", f"`{command}`"):
                as_user(self.user, cell, words)
                if not any(files for _, _, files in os.walk(static)):
                    raise Failure(f"it left no file in {directory}")
            give(static, "root", read_only=True)
        date_by_content(static)

    def build(self) -> str:
        """Make the release aside, and rename it when it is whole."""
        partial = self.path + ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial, mode=0o755)
        with self.step("unpack", "Unpacking the release"):
            unpack(self.params["archive"], partial)
        venv = self.venv(partial)
        self.install(venv, partial)
        self.collect_static(partial, venv)
        with self.step("compile", "Compiling"):
            # Byte code now, because nobody may write it later. A file that does not compile is the application's affair.
            command = [
                os.path.join(venv, "bin", "python"),
                "-m",
                "compileall",
                "-qq",
                "-s",
                partial,
                "-p",
                self.path,
            ]
            subprocess.run([*command, partial], check=False, cwd="/", capture_output=True)
        self.note(partial, venv)
        os.rename(partial, self.path)
        os.unlink(self.params["archive"])
        self.changed = True
        return venv

    def note(self, top: str, venv: str) -> None:
        """Write what this release is into its RELEASE.json."""
        facts = {
            "release": self.release,
            "commit": self.params["commit"],
            "venv": os.path.basename(venv),
            "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        path = os.path.join(top, "RELEASE.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=2, sort_keys=True)
            file.write("\n")
        os.replace(path + ".new", path)

    def mend(self) -> str:
        """The release is there: see that its virtual environment is too."""
        venv = self.venv(self.path)
        self.install(venv, self.path)
        if read_json(os.path.join(self.path, "RELEASE.json")).get("venv") != os.path.basename(venv):
            self.note(self.path, venv)
        return venv

    def prune(self) -> list[str]:
        """Remove what is too old: releases beyond `keep`, leftovers, and virtual environments that none uses."""
        used = {self.release}
        for slot in ("a", "b"):
            facts = read_json(os.path.join(self.params["home"], "slots", slot, "slot.json"))
            used |= {facts.get("release", ""), facts.get("previous") or ""}
        whole = [name for name in os.listdir(self.releases) if re.fullmatch(r"[0-9a-f]{12}", name)]
        built = {name: read_json(os.path.join(self.releases, name, "RELEASE.json")) for name in whole}
        newest = sorted(whole, key=lambda name: built[name].get("built", ""), reverse=True)
        removed = [name for name in newest[self.params["keep"] :] if name not in used]
        for name in os.listdir(self.releases):
            if name in removed or name not in whole:
                remove(os.path.join(self.releases, name))
        venvs = {facts.get("venv") for name, facts in built.items() if name not in removed}
        venvs |= {read_json(os.path.join(self.params["home"], "slots", s, "slot.json")).get("venv") for s in "ab"}
        for name in os.listdir(self.venvs):
            if name not in venvs:
                remove(os.path.join(self.venvs, name))
        return removed


def remove(path: str) -> None:
    """Remove a tree or a file."""
    if os.path.isdir(path) and not os.path.islink(path):
        aside = path + ".partial" if not path.endswith(".partial") else path
        os.rename(path, aside)  # half a release must not look like a whole one
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.unlink(path)


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from a file; nothing when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
            "worker_class": text,
            "static_directory": text,
            "static_command": text,
            "environment_file": {"type": "path"},
            "sandbox": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 3},
            "commit": text,
            "lock": {"type": "path"},
            "token": {"type": "str", "no_log": False},
        },
        supports_check_mode=True,
    )
    builder = Builder(module.params)
    present = os.path.isdir(builder.path)
    active = read_json(os.path.join(module.params["home"], "active", "slot.json")).get("release")
    result: dict[str, Any] = {"changed": False, "present": present, "path": builder.path, "active": active}
    result.update(removed=[], seconds=builder.seconds)
    if not present:
        result["diff"] = {"before": "", "after": f"release {builder.release}\n"}
    try:
        with holding(module.params["lock"], module.params["token"]):
            if module.check_mode:
                result["changed"] = not present or not os.path.exists(
                    os.path.join(builder.venv(builder.path), ".complete")
                )
            elif present:
                result["venv"] = builder.mend()
                result["changed"] = builder.changed
            elif module.params["archive"]:
                result["venv"] = builder.build()
                result.update(changed=True, present=True, removed=builder.prune())
            else:
                os.makedirs(builder.releases, mode=0o755, exist_ok=True)
    except (Failure, OSError, tarfile.TarError) as failure:
        module.fail_json(msg=f"Release {builder.release}: {failure}", seconds=builder.seconds)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
