"""Which requirements decide what an environment holds, and which cannot be shared."""

from pathlib import Path

import pytest
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_requirements import from_the_release, requirement_files, venv_key

pytestmark = pytest.mark.programs


def test_requirements_are_read_with_all_that_they_include(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/base.txt").write_text("django\n-c ../pins.txt  # pinned\n")
    (tmp_path / "pins.txt").write_text("django==5.2.19\n")
    (tmp_path / "production.txt").write_text(
        "-r requirements/base.txt\n--requirement=pins.txt\n-r https://example.org/x.txt\n"
    )
    assert sorted(requirement_files(str(tmp_path), "production.txt")) == [
        "pins.txt",
        "production.txt",
        "requirements/base.txt",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-e .", "requirements.txt, line 1: -e .: an editable install cannot be shared by releases"),
        ("-r ../secret.txt", "../secret.txt: requirements must lie inside the source"),
        ("-r more.txt", "more.txt: No such file or directory; it is named as the application's requirements"),
    ],
)
def test_requirements_that_cannot_be_shared_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    with pytest.raises(Failure) as caught:
        requirement_files(str(tmp_path), "requirements.txt")
    assert str(caught.value) == message


def test_the_key_of_an_environment_depends_on_what_decides_its_content() -> None:
    pinned, local = {"r.txt": b"django==5\n"}, {"r.txt": b"django==5\n./vendor/lib\n"}
    base = venv_key(pinned, "cpython-311", "gunicorn==27.0.1", "aaa")
    assert base == venv_key(pinned, "cpython-311", "gunicorn==27.0.1", "bbb")
    assert base != venv_key(pinned, "cpython-313", "gunicorn==27.0.1", "aaa")
    assert base != venv_key(pinned, "cpython-311", "gunicorn==28", "aaa")
    assert base != venv_key({"r.txt": b"django==6\n"}, "cpython-311", "gunicorn==27.0.1", "aaa")
    assert venv_key(local, "p", "g", "aaa") != venv_key(local, "p", "g", "bbb"), "it holds a part of the release"


def test_what_may_be_another_thing_next_time_is_not_shared() -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    settled = f"""\
Django[argon2]>=5,<6 ; python_version > "3.9"  # comment
gunicorn==27.0.1 \\
    --hash=sha256:{sha}
--index-url https://example.org/simple
-i https://example.org/simple
notes @ git+https://example.org/notes.git@{sha}
git+https://example.org/notes.git@{sha}#egg=notes
notes @ https://example.org/notes.whl#sha256={sha}
-r base.txt
--constraint=pins.txt
requests (>=2)
"""
    released = [".", "./pkg", "pkg/", "wheels/x-1-py3-none-any.whl", "x-1-py3-none-any.whl", "x.tar.gz", "file:./x.whl"]
    released += ["x @ file:./x.whl", "-f wheels", "--find-links=wheels", ".[extra]", "/opt/x"]
    elsewhere = ["git+https://example.org/notes.git", "notes @ git+ssh://git@example.org/notes.git@main"]
    elsewhere += ["https://example.org/main.zip", "-r https://example.org/r.txt", "-f https://example.org/wheels"]

    def key(text: str, release: str) -> str:
        return str(venv_key({"r.txt": text.encode()}, "p", "g", release))

    assert key(settled, "aaa") == key(settled, "bbb")
    assert not from_the_release({"r.txt": settled.encode()})
    for line in [*released, *elsewhere]:
        assert key(line, "aaa") != key(line, "bbb"), line
        assert from_the_release({"r.txt": line.encode()}) is (line in released), line
