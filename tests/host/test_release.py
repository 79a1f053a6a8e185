"""How a release comes about on a host: whose code runs as whom, what may be planted, and what the host may be like."""

import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployed import Deployed
from operated import altered, write_release
from testbed import ENVIRONMENT, PLAY, attempt

pytestmark = pytest.mark.host

UIDS = "/run/uids"
VICTIM = "/root/victim"
PASSWORD = "of-the-index-only"
# It tells as whom and as what Python runs it, through a FIFO: that can be written to from every cell, and none can hide it.
WITNESS = (
    f"import os; fd = os.open('{UIDS}', os.O_WRONLY | os.O_NONBLOCK); "
    "words = open('/proc/self/cmdline', 'rb').read(150).replace(b'\\0', b' ').replace(b'\\n', b' '); "
    "os.write(fd, b'%d %s\\n' % (os.getuid(), words)); os.close(fd)"
)
STARTED = ("-m pip install", "import compileall", "manage.py migrate", "manage.py collectstatic", "-m gunicorn")
# Builds where it lies, and plants links where root writes next: into every environment that it may write to.
PLANTER = f"""
import contextlib, glob, os
from setuptools import setup
for venv in glob.glob("/srv/notes/venvs/*"):
    with contextlib.suppress(OSError):
        os.symlink("{VICTIM}", venv + "/.complete")
        print("planted")
setup(name="planter", version="1", package_dir={{"": "src"}}, py_modules=["planted"])
"""


def wheel(directory: Path, name: str, files: dict[str, str]) -> None:
    """A wheel that holds these files and nothing else."""
    directory.mkdir(exist_ok=True)
    about = f"{name}-1.dist-info"
    whole = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(directory / f"{name}-1-py3-none-any.whl", "w") as file:
        for path, text in whole.items():
            file.writestr(path, text)


@contextmanager
def required(stack: Deployed, *lines: str) -> Iterator[None]:
    """The project with more requirements; later as it was."""
    with altered(stack.project / "app/requirements.txt", "django==5.2.19\n", "\n".join(["django==5.2.19", *lines, ""])):
        yield


def refused(stack: Deployed) -> str:
    """What a deploy says that does not come about; what was served is served still."""
    before = stack.shell("readlink -f /srv/notes/active/release")
    done = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], stack.project)
    assert done.returncode != 0, f"deployed all the same:\n{done.stdout}"
    assert stack.shell("readlink -f /srv/notes/active/release") == before
    assert stack.get("/health/").status == 200
    return done.stdout


@contextmanager
def witnessed(stack: Deployed) -> Iterator[None]:
    """What the witness tells is kept meanwhile."""
    stack.shell(
        f"rm -f {UIDS}*; mkfifo {UIDS}; chmod 666 {UIDS}; : >{UIDS}.seen; "
        f"systemd-run --quiet --unit=uids sh -c 'cat <>{UIDS} >>{UIDS}.seen'"
    )
    try:
        yield
    finally:
        stack.shell(f"systemctl stop uids; rm {UIDS}*")


def told_by_the_witness(stack: Deployed) -> list[str]:
    """A line for each Python that has been started, all that were written until now: the user's id and the command."""
    mark = f"until {time.monotonic_ns()}"
    said = stack.shell(f"echo {mark} >{UIDS}; until grep -q '{mark}' {UIDS}.seen; do :; done; cat {UIDS}.seen")
    return [line for line in said.splitlines() if not line.startswith("until ")]


@pytest.fixture(autouse=True)
def victim(operated: Deployed) -> Iterator[None]:
    """A file of root's that nobody has written to afterwards."""
    operated.shell(f"printf kept >{VICTIM}; chmod 600 {VICTIM}")
    yield
    assert operated.shell(f"cat {VICTIM}; stat -c ' %u %a' {VICTIM}") == "kept 0 600\n"
    operated.shell(f"rm {VICTIM}")


@pytest.mark.row(38, "packages that plant a .pth file and a link in their environment")
def test_what_requirements_bring_runs_as_the_service_and_never_as_root(operated: Deployed) -> None:
    app = operated.project / "app"
    wheel(app / "wheels", "witness", {"witness.pth": WITNESS + "\n"})
    wheel(app / "wheels", "found", {"found.py": "x = 1\n"})
    (app / "planter/src").mkdir(parents=True)
    (app / "planter/setup.py").write_text(PLANTER)
    (app / "planter/src/planted.py").write_text("x = 1\n")
    (app / "private.txt").write_text("for the service alone")
    needed = required(operated, "./planter", "wheels/witness-1-py3-none-any.whl", "-f wheels", "found")
    with witnessed(operated), needed:
        operated.play()
        release = operated.shell("readlink -f /srv/notes/active/release").strip()
        venv = operated.shell("readlink -f /srv/notes/active/venv").strip()
        service = operated.shell("id -u notes").strip()
        told = told_by_the_witness(operated)
        assert [line for line in told if line.split()[0] != service] == [], "none but the service's user runs it"
        assert [step for step in STARTED if not any(step in line for line in told)] == [], "it sees them all"
        modules = operated.shell(f"ls {venv}/lib/python3*/site-packages")
        assert {"planted.py", "found.py", "witness.pth"} <= set(modules.split())
        assert operated.shell(f"find {venv} {release} ! -user root; stat -c '%F %U' {venv}/.complete") == (
            "regular empty file root\n"
        )
        assert (
            operated.shell(f"find {release} -name '*.egg-info' -o -name build -o -type d -name planted").strip() == ""
        )
        assert re.search(r"wsgi\.cpython-\d+\.pyc", operated.shell(f"ls {release}/notes/__pycache__"))
        operated.shell(  # as if a build had been interrupted, and the service's user had made use of that
            f"chown -R notes {venv}; rm {venv}/.complete; "
            f"runuser -u notes -- sh -c 'cd {venv}; ln -s {VICTIM} .complete; mkfifo pipe; ln -s /etc lib/etc'"
        )
        operated.play()
        assert operated.shell(f"ls -A {venv}; stat -c '%F %U' {venv}/.complete").split() == (
            ".complete bin include lib lib64 pyvenv.cfg regular empty file root".split()
        )
        assert {line.split()[0] for line in told_by_the_witness(operated)} == {service}
        assert (
            operated.shell(
                "runuser -u notes -- find /srv/notes -path /srv/notes/configurations -prune -o -writable ! -type l -print"
            )
            == ""
        )
    assert operated.shell("ls -d /srv/notes/releases/*.* 2>/dev/null || true") == "", "what was made on the way is gone"


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (
            "os.symlink('/etc/passwd', 'static_root/leak')",
            "static_root/leak: the link leads out of the directory, to /etc/passwd",
        ),
        ("os.mkfifo('static_root/pipe')", "static_root/pipe: not a regular file"),
    ],
    ids=["link", "fifo"],
)
@pytest.mark.row(38, "a static command that plants a link or a FIFO")
def test_what_the_static_command_plants_is_refused(operated: Deployed, plant: str, message: str) -> None:
    settings = operated.project / "app/notes/settings.py"
    planting = f"import os, sys\nif 'collectstatic' in sys.argv:\n    {plant}\nSTATIC_URL = "
    with altered(settings, "STATIC_URL = ", planting):
        told = refused(operated)
    assert f"`python manage.py collectstatic --noinput` failed: {message}" in told


def test_the_password_of_an_index_is_seen_nowhere(operated: Deployed) -> None:
    index = f"http://robot:{PASSWORD}@127.0.0.1:9/simple"
    variables = f"notes_{ENVIRONMENT}_pip_environment: {{PIP_INDEX_URL: '{index}', PIP_RETRIES: 0, PIP_TIMEOUT: 5}}\n"
    (operated.project / "group_vars").mkdir()
    (operated.project / "group_vars/all.yml").write_text(variables)
    pattern = PASSWORD.replace("-", "[-]")
    watch = f"""while :; do
        (tr '\\0' ' ' </proc/$(pgrep -n -u notes -f 'pip install')/cmdline; echo) >>/run/watched 2>/dev/null
        cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -ao '{pattern}' >>/run/watched
        systemctl show 'run-*' | grep -o '{pattern}' >>/run/watched
    done"""
    operated.shell(f"rm -f /run/watched; systemd-run --quiet --unit=watch sh -c {_quoted(watch)}")
    try:
        with required(operated, "sqlparse<2"):
            told = refused(operated)
    finally:
        shutil.rmtree(operated.project / "group_vars")
        operated.shell("systemctl stop watch")
    seen = operated.shell("cat /run/watched")
    assert "pip install" in seen, "the watch has seen the time that counts"
    assert PASSWORD not in seen
    assert "Installing requirements.txt with pip failed" in told
    assert "No matching distribution found for django==5.2.19" in told, "pip was given the index"
    assert PASSWORD not in told
    assert PASSWORD not in operated.shell(
        "journalctl --no-pager; ls /run; cat /run/systemd/transient/* 2>/dev/null || true"
    )


def _quoted(script: str) -> str:
    return "'" + script.replace("$", "$$").replace("'", "'\\''") + "'"


def test_a_hardened_umask_and_a_small_tmp_are_no_hindrance(operated: Deployed) -> None:
    operated.shell(
        "echo 'Defaults umask=0077, umask_override' >/etc/sudoers.d/umask; mount -t tmpfs -o size=4M,mode=1777 tmpfs /tmp; "
        "chmod 750 /srv/notes/releases /srv/notes/venvs"
    )
    try:
        assert operated.shell("umask") == "0077\n"
        write_release(operated, "# made under a umask")
        with required(operated, "sqlparse<1"):
            operated.play()
    finally:
        operated.shell("umount -l /tmp; rm /etc/sudoers.d/umask")
    assert operated.get("/health/").status == 200
    top = "/srv/notes /srv/notes/releases /srv/notes/venvs /srv/notes/active/release/ /srv/notes/active/venv/"
    assert operated.shell(f"stat -c '%a %U' {top}").split("\n")[:-1] == ["755 root"] * 5
    assert operated.shell("find /srv/notes/active/release/ /srv/notes/active/venv/ ! -perm -444 ! -type l") == ""


def test_workers_that_take_more_than_is_assumed_are_served(operated: Deployed) -> None:
    """Nobody has measured them. Twice what a slot of two should need by what is assumed, 80 MB a worker, would kill these."""
    try:
        write_release(operated, "eaten = b'x' * (190 << 20)")
        operated.play()
        assert operated.get("/health/").status == 200
        master = "$(systemctl show --value -p MainPID notes@$(basename $(readlink /srv/notes/active)))"
        held_kb = operated.shell(
            f"for pid in $(pgrep -P {master}); do awk '/^VmRSS/ {{print $2}}' /proc/$pid/status; done"
        )
        assert [int(kb) >> 10 > 190 for kb in held_kb.split()] == [True, True], held_kb
    finally:
        write_release(operated, "# of the usual size again")
        operated.play()
