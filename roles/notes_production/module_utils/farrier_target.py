"""What should serve: a release and a configuration, compared with what the active slot was filled with."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_slot import Slot
from ansible.module_utils.farrier_text import excerpt, masked

UNITS = "/etc/systemd/system"


class Target:
    """The release and the configuration that a switch is asked for."""

    def __init__(self, params: dict[str, Any], now: dict[str, Any]) -> None:
        """Find them; `now` is what the active slot was filled with."""
        self.params, self.home, self.now = params, str(params["home"]), now
        self.unit = f"{params['application']}@.service"
        self.release, self.configuration = self.resolve(params["release"], params["configuration"])
        self.files = configurations.content(self.home, f"configurations/{self.configuration}")
        self.expected = configurations.planned(self.files)

    def resolve(self, release: str, configuration: str | None) -> tuple[str, str | None]:
        """The release and the configuration that are meant; `previous` is what the active slot replaced."""
        if release == "previous":
            if not self.now.get("previous"):
                raise Failure("There is no previous release to go back to.")
            release, configuration = str(self.now["previous"]), self.now.get("previous_configuration")
        for name, kind in ((release, "release"), (configuration, "configuration")):
            if name is not None and not configurations.is_id(name):
                raise Failure(f"{name}: not the name of a {kind}, which has 12 hex digits")
        last = configurations.last_of(release, configurations.served(self.home))
        return release, configuration or last or self.now.get("configuration")

    @property
    def workers(self) -> int:
        """How many workers the configuration asks for."""
        return int(self.expected.get("workers", 1))

    @property
    def built(self) -> bool:
        """Whether the release is on this host."""
        return os.path.isdir(os.path.join(self.home, "releases", self.release))

    def wanted(self) -> dict[str, Any]:
        """What the active slot should be filled with; Failure where a part of it is not on this host."""
        if not self.built:
            whole = filter(configurations.is_id, beneath.names(self.home, "releases"))
            raise Failure(f"Release {self.release} is not on this host; available: {', '.join(whole) or 'none'}.")
        if len(self.files) != len(configurations.MODES):
            raise Failure(
                f"Configuration {self.configuration} of release {self.release} is not on this host; deploy it."
            )
        with open(os.path.join(UNITS, self.unit), "rb") as unit:
            unit_sha256 = hashlib.sha256(unit.read()).hexdigest()
        pair = (self.now.get("release"), self.now.get("configuration"))
        same = pair == (self.release, self.configuration)
        before = (self.now.get("previous"), self.now.get("previous_configuration")) if same else pair
        return {
            "release": self.release,
            "venv": venv_of(self.home, self.release),
            "configuration": self.configuration,
            "previous": before[0],
            "previous_configuration": before[1],
            "unit_sha256": unit_sha256,
            **self.expected,
        }

    def differences(self, active: Slot | None, wanted: dict[str, Any]) -> list[str]:
        """Why the active slot is not what it should be, each in a few words and without any value of a secret."""
        if not active:
            return ["nothing is served yet"]
        found = []
        for key, name in (("release", "release"), ("venv", "virtual environment")):
            if self.now.get(key) != wanted[key]:
                found.append(f"{name} {self.now.get(key)} -> {wanted[key]}")
        if self.now.get("unit_sha256") != wanted["unit_sha256"]:
            found.append("the unit file changed")
        running = configurations.content(self.home, active.directory)
        return found + [f"{name} changed" for name in configurations.differing(running, self.files)]

    def foresee(self, active: Slot | None) -> list[str]:
        """What would be switched and why, in check mode, where what comes first may not have been written."""
        coming = [os.path.basename(path) for path in self.params["coming"]]
        coming = [name for name in coming if name in (*configurations.MODES, self.unit)]
        if active and "configuration" in self.now and not coming and self.built:
            return self.differences(active, self.wanted())
        now = self.now.get("release")
        new = [f"release {now} -> {self.release}"] if now != self.release else []
        return new + [f"{name} changed" for name in coming]

    def shown(self, text: str) -> str:
        """A failure's words without the values of secrets, whatever the application has logged or answered."""
        found = []
        for name in {self.configuration, self.now.get("configuration")}:
            files = configurations.content(self.home, f"configurations/{name}")
            found += configurations.values(files.get("environment", b""), self.params["hidden"])
        return str(excerpt(masked(text, found)))


def venv_of(home: str, release: str) -> Any:
    """The virtual environment that a release was made with."""
    found = beneath.read_json(home, f"releases/{release}/RELEASE.json").get("venv")
    if found is not None and not configurations.is_id(found):
        raise Failure(f"Release {release} has no known virtual environment; deploy it again.")
    return found
