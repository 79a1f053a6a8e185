"""Where a release is made on the host: its directories, whose they are meanwhile, and the cell in which code runs."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import time
from types import MappingProxyType
from typing import Any, Iterator, Mapping

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils.farrier_archive import public
from ansible.module_utils.farrier_cell import as_user
from ansible.module_utils.farrier_host import Failure, output


class Workplace:
    """The directories below `home` for one release, its service's user, and how long each step took."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Keep what the play asks for."""
        self.params = params
        self.home: str = params["home"]
        self.release: str = params["release"]
        self.user: str = params["user"]
        self.releases = os.path.join(self.home, "releases")
        self.venvs = os.path.join(self.home, "venvs")
        self.path = os.path.join(self.releases, self.release)
        self.workshop = self.path + ".build"
        self.seconds: dict[str, float] = {}
        self.changed = False

    @contextlib.contextmanager
    def step(self, name: str, what: str) -> Any:
        """Time a step, and say which one failed."""
        begun = time.monotonic()
        try:
            yield
        except (Failure, beneath.Refused) as failure:
            raise Failure(f"{what} failed: {failure}") from None
        self.seconds[name] = round(time.monotonic() - begun, 2)

    @property
    def account(self) -> pwd.struct_passwd:
        """The service's user."""
        try:
            return pwd.getpwnam(self.user)
        except KeyError:
            raise Failure(f"{self.user}: there is no such user on this host") from None

    def give(self, top: str, relative: str = "") -> None:
        """Give a tree to the service's user."""
        beneath.give(top, relative, self.account.pw_uid, self.account.pw_gid)

    def take(self, top: str, relative: str = "") -> None:
        """Take a tree back: it is finished, all may read it, and none but root may write it."""
        beneath.give(top, relative, os.geteuid(), os.getegid(), public, frozenset({self.account.pw_uid}))

    def directories(self) -> Iterator[tuple[str, int, os.stat_result]]:
        """Those of our own that are there, each open, with its status."""
        for part in ("", "releases", "venvs", "slots", "slots/a", "slots/b", "slots/preflight"):
            with contextlib.suppress(FileNotFoundError), beneath.directory(self.home, part) as fd:
                yield part, fd, os.fstat(fd)

    @property
    def stands(self) -> bool:
        """Whether the directories are as `stand` leaves them."""
        return all(
            found.st_uid in (0, os.geteuid()) and stat.S_IMODE(found.st_mode) == 0o755
            for _, _, found in self.directories()
        )

    def stand(self) -> None:
        """See that the directories are there, are root's, and can be entered by the service, whatever the umask was."""
        os.makedirs(self.home, mode=0o755, exist_ok=True)
        for part in ("releases", "venvs"):
            beneath.make_directory(self.home, part)
        for part, fd, found in self.directories():
            if found.st_uid not in (0, os.geteuid()):
                whose = f"belongs to user {found.st_uid}, not to root"
                raise Failure(f"{os.path.join(self.home, part)}: {whose}; move it away, and this makes it anew")
            if stat.S_IMODE(found.st_mode) != 0o755:
                os.fchmod(fd, 0o755)
                self.changed = True

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A directory on the disk for what is made on the way, the service user's own; gone afterwards."""
        remove(self.workshop)
        os.mkdir(self.workshop, 0o700)
        os.chown(self.workshop, self.account.pw_uid, self.account.pw_gid)
        try:
            yield
        finally:
            remove(self.workshop)

    def run(
        self,
        command: list[str],
        *settings: str,
        data: bool = False,
        network: bool = False,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Run a command as the service's user in the application's own cell; without its data and a network unless asked for."""
        sandbox = [each for each in self.params["sandbox"] if data or not each.startswith("StateDirectory=")]
        alone = [] if network else ["PrivateNetwork=yes"]
        return str(as_user(self.user, [*sandbox, *alone, *settings], command, environment))


def remove(path: str) -> None:
    """Remove a tree, a file or a link, if there is one; rm(1) follows no link and goes as deep as need be."""
    if not os.path.lexists(path):
        return
    aside = path if path.endswith((".partial", ".build")) else path + ".partial"
    if aside != path:
        remove(aside)
        os.rename(path, aside)  # half a release must not look like a whole one
    output("rm", "-rf", "--", aside)
