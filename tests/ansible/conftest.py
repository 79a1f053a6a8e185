"""What several modules of this folder start from."""

from pathlib import Path

import pytest

from building import Maker
from switching import Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def serving(host: Host) -> Host:
    host.switch()
    return host


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    return Maker(tmp_path, monkeypatch)
