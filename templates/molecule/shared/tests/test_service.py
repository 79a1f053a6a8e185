"""The application is served as it should be: by one slot, through NGINX, with nothing left open."""

import re
import secrets
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import nginx_conf
import pytest
from living import Living

# What a client may claim about itself, and what must not be believed.
FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP")
# ... and what must not come through at all.
CLAIMS = ("Forwarded", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Script-Name", "X-Original-URL", "Remote-User")
TIMES = ("request_time", "upstream_connect_time", "upstream_header_time", "upstream_response_time")
# The metrics' timer turns every 15 s; some more for the turn itself.
METRICS_SECONDS = 25
# Django's names with a hash of their content.
HASHED = re.compile(r"\.[0-9a-f]{12}\.")


class TestSlots:
    """One of two serves, and it will be the same one after a restart of the host."""

    def test_exactly_one_runs_and_it_is_the_active_one(self, living: Living) -> None:
        running = [name for name, slot in living.stack["slots"].items() if slot["unit"]["ActiveState"] == "active"]
        assert running == [living.stack["active"]]

    def test_the_next_start_of_the_host_starts_the_active_one_and_no_other(self, living: Living) -> None:
        app = living.app
        assert living.host.service(f"{app}-activate.service").is_enabled
        assert living.host.service(f"{app}.socket").is_enabled
        enabled = [s["unit"]["UnitFileState"] for s in living.stack["slots"].values()]
        assert "enabled" not in enabled, (
            "the link /srv/<app>/active alone decides; an enabled slot would compete with it"
        )

    def test_the_answering_processes_run_the_release_that_the_slot_names(self, living: Living) -> None:
        release = living.slot["record"].get("release")
        assert release
        directories = {process["directory"] for process in (living.slot["main"], *living.workers)}
        assert directories == {f"{living.expect['release_root']}/releases/{release}"}

    def test_it_runs_as_the_applications_own_user_without_privileges(self, living: Living) -> None:
        for process in (living.slot["main"], *living.workers):
            assert process["user"] == living.expect["user"]
            assert process["capabilities"] == 0
            assert process["no_new_privileges"]

    def test_it_has_not_been_restarted_by_itself(self, living: Living) -> None:
        assert living.slot["unit"]["NRestarts"] == "0"


class TestPages:
    """What people get."""

    def test_a_page_comes_through_nginx(self, living: Living) -> None:
        (page,) = living.ask({"path": living.expect["health_path"]})
        assert page.status == 200, page
        assert page.headers["server"] == "nginx", "NGINX shows its version, or Gunicorn answered"

    def test_an_answer_names_its_release_where_that_is_switched_on(self, living: Living) -> None:
        (page,) = living.ask({"path": living.expect["health_path"], "headers": {"X-Release": "forged"}})
        named = living.slot["record"]["release"] if living.expect["release_header"] else None
        assert page.headers.get("x-release") == named

    def test_a_post_reaches_the_application_and_the_log_says_how_long_it_took(self, living: Living) -> None:
        mark = secrets.token_hex(8)
        address = f"{living.expect['health_path']}?mark={mark}"
        (answer,) = living.ask(
            {
                "method": "POST",
                "path": address,
                "body": "a=1",
                "headers": {"Content-Type": "application/x-www-form-urlencoded"},
            }
        )
        assert answer.status is not None
        line = log_line(living, mark)
        for name in TIMES:
            assert re.fullmatch(r"\d+\.\d+", line[name]), line
        assert line["upstream_status"] == str(answer.status)

    def test_an_unknown_host_never_reaches_the_application(self, living: Living) -> None:
        mark = secrets.token_hex(8)
        (answer,) = living.ask({"path": f"/?mark={mark}", "host": "unknown.invalid"})
        assert answer.status is None or 400 <= answer.status < 500
        assert log_line(living, mark).get("upstream_status", "-") == "-"

    def test_what_clients_claim_about_themselves_is_overwritten(self, living: Living) -> None:
        passed = {name.lower(): value for name, value in living.nginx_location.in_force("proxy_set_header")}
        for name in FORWARDED:
            # The client's own header would be $http_x_forwarded_for, also inside $proxy_add_x_forwarded_for.
            assert name.lower() in passed, f"{name} reaches the application as the client wrote it"
            assert "forwarded" not in passed[name.lower()]
        assert {name: passed.get(name.lower()) for name in CLAIMS} == dict.fromkeys(CLAIMS, "")
        assert passed["connection"] == "close"
        assert living.nginx_server.in_force("underscores_in_headers") in ([], [("off",)])

    def test_a_full_queue_is_answered_with_503_and_retry_after(self, living: Living) -> None:
        pages = {code: words[-1] for words in living.nginx_location.in_force("error_page") for code in words[:-1]}
        assert "502" in pages, "a full queue would be seen as NGINX's own 502"


class TestUploads:
    """The limit is NGINX's; the plan's other tests find it to the byte."""

    def test_above_the_limit_the_application_is_not_even_asked(self, living: Living) -> None:
        (words,) = living.nginx_location.in_force("client_max_body_size")
        mark = secrets.token_hex(8)
        path = f"{living.expect['health_path']}?mark={mark}"
        body = {"multipart_bytes": nginx_conf.size(words[0]) + 1}
        (answer,) = living.ask({"method": "POST", "path": path, "body": body})
        assert answer.status == 413
        assert log_line(living, mark)["upstream_status"] == "-"


class TestStaticFiles:
    """NGINX serves them from the release, with what browsers need to keep them."""

    @pytest.fixture
    def address(self, living: Living, expect: Mapping[str, Any]) -> str:
        if not expect["static"]:
            pytest.skip("this application has no static files")
        root = f"{expect['release_root']}/active/release/{expect['static']['directory']}"
        with living.as_root():
            found = living.host.run(
                "find -L %s -type f -name '*.*' -size +0 -printf '%%P\\n'", root
            ).stdout.splitlines()
        assert found, f"{root} is empty"
        return str(expect["static"]["url"] + sorted(found, key=lambda name: not HASHED.search(name))[0])

    def test_they_carry_what_browsers_need_to_keep_them(self, living: Living, address: str) -> None:
        (answer,) = living.ask({"path": address})
        assert answer.status == 200, answer
        assert answer.headers["etag"]
        assert "max-age=" in answer.headers["cache-control"]
        if HASHED.search(PurePosixPath(address).name):
            assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].partition(";")[0] != "application/octet-stream"

    def test_what_a_browser_has_already_is_not_sent_again(self, living: Living, address: str) -> None:
        (first,) = living.ask({"path": address})
        (second,) = living.ask({"path": address, "headers": {"If-None-Match": first.headers["etag"]}})
        assert (second.status, second.body) == (304, "")

    def test_gunicorn_is_not_asked_for_them(self, living: Living, address: str) -> None:
        mark = secrets.token_hex(8)
        living.ask({"path": f"{address}?mark={mark}"})
        assert log_line(living, mark)["upstream_status"] == "-"

    def test_nothing_beside_them_can_be_reached(self, living: Living, expect: Mapping[str, Any], address: str) -> None:
        url = expect["static"]["url"]
        for path in (
            f"{url}../{expect['static']['directory']}",
            f"{url}%2e%2e/manage.py",
            f"{url.rstrip('/')}../manage.py",
        ):
            (answer,) = living.ask({"path": path})
            assert answer.status != 200, f"{address} is served, and so is {path}"


class TestSecrets:
    """Nobody else reads them, and nothing repeats them."""

    def test_the_files_are_readable_by_root_or_the_service_alone(self, living: Living) -> None:
        files = re.findall(r"(/\S+) \(ignore_errors=", living.slot["unit"]["EnvironmentFiles"])
        assert files
        with living.as_root():
            for path in files:
                file = living.host.file(path)
                assert file.user in {"root", living.expect["user"]}
                assert file.mode & 0o077 == 0, f"{path} has mode {file.mode:o}"

    def test_no_secret_is_in_a_process_list_a_unit_or_the_journal(self, living: Living) -> None:
        names = living.expect["secrets"]
        assert living.python("on_host_secrets.py", living.app, living.stack["active"], *names) == []


class TestOperation:
    """What an operator asks the host."""

    def test_no_play_has_left_its_lock(self, living: Living) -> None:
        with living.as_root():
            lock = living.host.file(f"/run/{living.app}.lock")
            assert not lock.exists or lock.content == b""

    def test_one_command_tells_how_busy_it_is(self, living: Living) -> None:
        with living.as_root():
            said = living.host.run("%s-status" % living.app)
        assert said.succeeded, said.stderr
        assert f"release  {living.slot['record']['release']} in slot {living.stack['active']}" in said.stdout
        assert f"workers  {len(living.workers)} ready" in said.stdout
        assert f"of at most {living.stack['queue']['backlog']} requests wait" in said.stdout

    def test_whoever_may_not_look_is_told_so_and_sees_no_zeros(self, living: Living) -> None:
        if living.is_root:
            pytest.skip("root may look")
        said = living.host.run("%s-status" % living.app)
        directory = f"/run/{living.app}-{living.stack['active']}"
        assert (said.rc, said.stdout) == (1, "")
        assert said.stderr == (
            f"{living.app}-status: {living.host.user().name} may not look into {directory}; root may: sudo {living.app}-status\n"
        )

    def test_the_applications_directories_are_its_own_affair(self, living: Living) -> None:
        with living.as_root():
            for path in (f"/var/lib/{living.app}", f"/run/{living.app}-{living.stack['active']}"):
                directory = living.host.file(path)
                assert (directory.user, directory.mode) == (living.expect["user"], 0o750), path

    def test_its_metrics_are_written_where_that_is_switched_on(self, living: Living) -> None:
        directory = living.expect["metrics_directory"]
        if not directory:
            pytest.skip("this environment has no metrics")
        file = living.host.file(f"{directory}/{living.app}.prom")
        expected = f'gunicorn_workers{{application="{living.app}"}} {len(living.workers)}\n'
        limit = time.monotonic() + METRICS_SECONDS
        while not (file.exists and expected in file.content_string) and time.monotonic() < limit:
            time.sleep(1)  # after a restart of the host the file is as old as the timer's last turn
        assert expected in file.content_string
        assert living.host.service(f"{living.app}-metrics.timer").is_running
        assert living.host.service(f"{living.app}-metrics.timer").is_enabled


class TestLogs:
    """Where an operator looks first."""

    def test_the_journal_has_the_applications_log(self, living: Living) -> None:
        main = living.slot["main"]["pid"]
        with living.as_root():
            lines = living.host.run(
                "journalctl --no-pager --output cat _PID=%s + _PID=%s",
                str(main),
                str(living.workers[0]["pid"]),
            ).stdout
        assert "Booting worker" in lines


def log_line(living: Living, mark: str) -> dict[str, str]:
    """What NGINX's access log says about the one request whose address holds `mark`; nothing if it is not there."""
    with living.as_root():
        found = living.host.run("grep -h -F -- %s /var/log/nginx/%s.access.log", mark, living.app).stdout
    return dict(re.findall(r'(\w+)="?([^" ]*)', found))
