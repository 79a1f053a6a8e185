"""What the users of a Locust file ask for is found by running them; they reach nothing but what writes it down."""

import re
from pathlib import Path

import pytest

from farrier.errors import InputError
from farrier.measure.locust_file import asked_by_users
from farrier.measure.requests import Request
from farrier.measure.sources import RequestSource, asked_for, record
from farrier.project.reading import read_project

pytestmark = pytest.mark.programs

USERS = """\
import random, time
from locust import FastHttpUser, HttpUser, SequentialTaskSet, constant, task

print("a locust file may say something")

class Reader(HttpUser):
    weight = 3
    wait_time = constant(0.9)
    host = "https://www.example.org"

    @task
    def note(self):
        self.client.get(f"/notes/{random.randint(1, 50)}/?utm_source=x&page=2")
        self.client.get("https://other.example.org/")

class Writer(FastHttpUser):
    wait_time = constant(1.8)

    def on_start(self):
        self.token = self.client.post("/login/", json={"user": "x"}).json()["token"]

    @task
    class Steps(SequentialTaskSet):
        @task
        def show(self):
            with self.client.get("/search/?q=%7Ba", name="search", catch_response=True, headers={"X-Api": "1"}) as answer:
                answer.success()

        @task
        def write(self):
            self.client.post("/notes/", data={"text": "{{ x }}"})
            time.sleep(2)
            raise KeyError("id")
"""

PROJECT = """\
application: {name: notes, wsgi: "notes.wsgi:application", static: {url: /static/, directory: s}}
environments:
  production: {inventory: hosts.yml, domain: www.example.org}
"""


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    path = tmp_path_factory.mktemp("locust") / "locustfile.py"
    path.write_text(USERS)
    return record(path)


def test_weights_follow_the_users_and_their_pace(users: list[dict[str, object]]) -> None:
    asked = asked_by_users(users, "'locustfile.py'", ("GET", "HEAD"))
    names = asked.names
    # Three readers make one request every 0.9 + 0.1 s; a writer needs 1.8 + 0.1 + 1.8 + 2 + 0.1 = 5.8 s for one of each.
    assert names["/notes/*/?page"] == pytest.approx(3.0, rel=0.01)
    assert names["search"] == pytest.approx(1 / 5.8, rel=0.01)
    assert set(names) == {"/notes/*/?page", "search"}
    search = next(request for request in asked.weights if request.name == "search")
    assert search == Request("search", "GET", "/search/?q=%7Ba", (("X-Api", "1"),))
    paths = [request.path for request in asked.weights if request.name != "search"]
    assert len(paths) == 5
    assert all(path.startswith("/notes/") and path.endswith("/?page=2") for path in paths)


def test_what_is_not_asked_for_is_told(users: list[dict[str, object]]) -> None:
    notes = "\n".join(asked_by_users(users, "'locustfile.py'", ("GET", "HEAD")).notes)
    # 1 / 5.8 of 3 + 2 / 5.8
    assert re.search(
        r"left out: 5\.[12] % of the requests are POST, which may change data; --methods GET,HEAD,POST", notes
    )
    assert "Reader: GET https://other.example.org/ gets no response here" in notes
    assert "Writer: on_start fails with KeyError: 'token'; every response is {} while requests are recorded" in notes
    assert "Writer: tasks fail with KeyError: 'id'; every response is {} while requests are recorded" in notes
    assert "Writer requests POST /login/ once, when it starts" in notes


def test_changing_requests_are_asked_for_on_request_with_their_bodies(users: list[dict[str, object]]) -> None:
    asked = asked_by_users(users, "'locustfile.py'", ("GET", "POST"))
    post = next(request for request in asked.weights if request.method == "POST")
    assert (post.name, post.path, post.body) == ("POST /notes/", "/notes/", b"text=%7B%7B+x+%7D%7D")
    assert dict(post.headers)["Content-Type"].startswith("application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import horseshoes\n", "its users cannot be run: 'ModuleNotFoundError: No module named 'horseshoes''"),
        ("x = 1\n", "it needs a subclass of HttpUser or FastHttpUser with tasks"),
        (
            "from locust import HttpUser, task\nclass U(HttpUser):\n  @task\n  def t(self): self.client.get('/static/x')\n",
            "send nothing that can be measured; left out: 100 % of the requests are answered by NGINX itself",
        ),
    ],
)
def test_a_file_without_use_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "farrier.yml").write_text(PROJECT)
    path = tmp_path / "my_users.py"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        asked_for(read_project(tmp_path / "farrier.yml"), RequestSource(locustfile=path))
    assert message in str(error.value)
    with pytest.raises(InputError, match="no such file; name a Locust file"):
        record(tmp_path / "nowhere.py")
