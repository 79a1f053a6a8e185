"""What the watch of a load test notes of a host's services, from the kernel's account of them."""

from collections.abc import Mapping

import pytest

from farrier.ansible.modules import load_watch


def test_services_are_named_wherever_the_kernel_accounts_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where cgroup v2 stands beside v1, and in a scope, as a container's database runs in."""
    own = {"notes@a.service": 1_000_000, "notes@b.service": 1_000_000, "nginx.service": 1_000_000}
    begun: Mapping[str, int] = {**own, "postgresql@15-main.service": 2_000_000, "ssh.service": 50_000}
    later = {
        **dict.fromkeys(own, 9_000_000),
        "postgresql@15-main.service": 3_500_000,
        "ssh.service": 60_000,
        "docker-1f.scope": 30_000,
    }
    answers = iter([begun, later])
    monkeypatch.setattr(load_watch, "units_cpu_us", lambda: next(answers))
    services = load_watch.Services("notes")
    assert services.noticed() == {"postgresql@15-main.service": 1.5, "docker-1f.scope": 0.03}
