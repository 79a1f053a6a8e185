"""The virtual environment of a release: built by the service's user, and root's when it is whole."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import sys
from typing import Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils.farrier_archive import links_stay_inside
from ansible.module_utils.farrier_cell import of_pip
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_requirements import from_the_release, requirement_files, venv_key
from ansible.module_utils.farrier_workplace import Workplace, remove

MARK = ".complete"
"""A file of root's in a virtual environment, written when it is whole and root's."""

GEVENT = ("gevent", "packaging")
"""What Gunicorn's gevent worker imports."""

PIP = ["-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]


class VirtualEnvironment:
    """The one that the requirements of a release ask for, which others may share."""

    def __init__(self, place: Workplace, top: str) -> None:
        """Find out which one that is; `top` is where the release lies now."""
        self.place, self.params, self.top = place, place.params, top
        self.requirements = requirement_files(top, self.params["requirements"])
        key = venv_key(self.requirements, self.python(), self.params["gunicorn"], place.release)
        self.path = os.path.join(place.venvs, key)

    def python(self) -> str:
        """What of the interpreter decides whether virtual environments can be shared."""
        interpreter = shutil.which(self.params["python"]) or self.params["python"]
        if os.path.realpath(interpreter) == os.path.realpath(sys.executable):
            return f"{sys.implementation.cache_tag} {platform.machine()}"
        code = "import platform, sys; print(sys.implementation.cache_tag, platform.machine())"
        return str(self.place.run([interpreter, "-c", code])).strip()

    @property
    def whole(self) -> bool:
        """Whether it is root's and root has marked it as whole; it may be a link that root has made."""
        try:
            link, top, mark = os.lstat(self.path), os.stat(self.path), os.lstat(os.path.join(self.path, MARK))
        except OSError:
            return False
        roots = all(each.st_uid in (0, os.geteuid()) for each in (link, top, mark))
        return roots and stat.S_ISDIR(top.st_mode) and stat.S_ISREG(mark.st_mode) and mark.st_nlink == 1

    def install(self) -> None:
        """Build it unless a whole one is there; a mark written last says so. It must hold what is needed."""
        if not self.whole:
            self.place.changed = True
            self.make()
        for package in GEVENT:
            self.require(package)

    def require(self, package: str) -> None:
        """Refuse an environment without what the worker class needs."""
        if self.params["worker_class"] == "gevent" and not self.holds(package):
            raise Failure(
                f"{self.params['requirements']} brings no {package}, which gunicorn.worker_class gevent needs: add it there, or "
                "take that override back"
            )

    def holds(self, package: str) -> bool:
        """Whether a package is installed in it."""
        versions = [name for name in beneath.names(self.path, "lib") if name.startswith(("python", "pypy"))]
        there = [name for each in versions for name in beneath.names(self.path, f"lib/{each}/site-packages", 100_000)]
        return any(name.startswith(f"{package}-") and name.endswith(".dist-info") for name in there)

    def make(self) -> None:
        """Build it from the requirements."""
        place, name = self.place, self.params["requirements"]
        remove(self.path)
        os.mkdir(self.path)
        os.chmod(self.path, 0o755)
        place.give(self.path)
        shelter = [f"ReadWritePaths={self.path} {place.workshop}"]
        shelter += [f"Environment={variable}={place.workshop}" for variable in ("HOME", "TMPDIR")]
        interpreter = shutil.which(self.params["python"]) or "python3"
        with place.step("venv", "Making the virtual environment"):
            place.run([interpreter, "-m", "venv", self.path], *shelter)
        with place.step("pip", f"Installing {name} with pip"):
            where = self.copy(shelter) if from_the_release(self.requirements) else self.top
            shelter.append(f"WorkingDirectory={where}")
            self.pip(["-r", name], shelter)
        self.require("gevent")  # of the application's choice, before Gunicorn brings any
        if not self.holds("gunicorn"):
            with place.step("gunicorn", f"Installing {self.params['gunicorn']} with pip"):
                self.pip([self.params["gunicorn"]], shelter)
        with place.step("finish", "Taking over the virtual environment"):
            self.finish()

    def pip(self, words: list[str], shelter: list[str]) -> None:
        """Run pip, which alone may reach the network."""
        python = os.path.join(self.path, "bin", "python")
        self.place.run([python, *PIP, *words], *shelter, network=True, environment=of_pip(self.params["pip"]))

    def copy(self, shelter: list[str]) -> str:
        """A copy of the release that is the service user's, because pip builds a package where its source lies."""
        copy = os.path.join(self.place.workshop, "source")
        self.place.run(["cp", "-R", "--preserve=mode,timestamps,links", self.top, copy], *shelter)
        return copy

    def finish(self) -> None:
        """Take it back from the service's user, and mark it as whole."""
        with beneath.directory(self.path) as fd, contextlib.suppress(FileNotFoundError):
            os.unlink(MARK, dir_fd=fd)  # whoever wrote it, it was not root
        self.place.take(self.path)
        links_stay_inside(self.path, besides=os.path.realpath(os.path.join(self.path, "bin", "python")))
        beneath.write(self.path, MARK, b"")


def state_of(params: dict[str, Any]) -> dict[str, Any]:
    """Whether a release is there, and whole: with its virtual environment, and open to the service, so that nothing is to do."""
    place = Workplace(params)
    active = beneath.read_json(os.path.join(place.home, "active"), "slot.json").get("release")
    state = {"present": os.path.isdir(place.path), "whole": False, "path": place.path, "active": active}
    if state["present"]:
        with contextlib.suppress(Failure, OSError):  # whoever makes it whole says what is wrong
            environment = VirtualEnvironment(place, place.path)
            noted = beneath.read_json(place.path, "RELEASE.json").get("venv")
            suits = params["worker_class"] != "gevent" or all(map(environment.holds, GEVENT))
            standing = place.stands and stat.S_IMODE(os.stat(place.path).st_mode) == 0o755
            state["venv"] = environment.path
            state["whole"] = standing and environment.whole and suits and noted == os.path.basename(environment.path)
    return state
