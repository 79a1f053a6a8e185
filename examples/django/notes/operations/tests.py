import os
from pathlib import Path
from unittest import mock

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.test import SimpleTestCase

from notes import environment
from notes.operations import running
from notes.testing import NotesTestCase


class Health(NotesTestCase):
    def test_a_working_database_is_ok(self) -> None:
        answer = self.client.get("/health/")
        self.assertEqual((answer.status_code, answer.content), (200, b"ok\n"))

    def test_a_broken_database_is_503(self) -> None:
        broken = mock.patch("notes.book.models.Note.objects.exists", side_effect=DatabaseError("gone"))
        with broken, self.assertLogs("notes.operations", "ERROR"):
            answer = self.client.get("/health/")
        self.assertEqual(answer.status_code, 503)


class Work(SimpleTestCase):
    def test_it_costs_what_was_asked_for(self) -> None:
        answer = self.client.get("/work/?cpu_ms=20&wait_ms=30").json()
        self.assertGreaterEqual(answer["cpu_ms"], 20)
        self.assertGreaterEqual(answer["total_ms"], 50)
        self.assertEqual(answer["pid"], os.getpid())

    def test_it_reads_a_posted_body(self) -> None:
        answer = self.client.post("/work/", b"x" * 200_000, content_type="application/octet-stream")
        self.assertEqual(answer.json()["body_bytes"], 200_000)

    def test_bad_numbers_are_answered_with_what_would_be_right(self) -> None:
        for given in ("soon", "-1", "nan", "inf", "120001", ""):
            with self.subTest(given):
                answer = self.client.get("/work/", {"wait_ms": given})
                self.assertEqual(answer.status_code, 400)
                self.assertEqual(answer.json()["error"], f"wait_ms is {given!r}: write a number from 0 to 120000")


class Running(SimpleTestCase):
    def test_the_release_is_the_directory_under_releases(self) -> None:
        self.assertEqual(running.release_name(Path("/srv/notes/releases/20260102-ab12")), "20260102-ab12")
        self.assertEqual(running.release_name(Path("/srv/notes/releases/20260102-ab12/site")), "20260102-ab12")
        self.assertEqual(running.release_name(Path("/home/ann/django")), "django")

    def test_the_slot_ends_the_name_of_the_runtime_directory(self) -> None:
        self.assertEqual(running.slot_name("/run/notes-b"), "b")
        self.assertEqual(running.slot_name("/run/my-notes-a"), "a")
        self.assertIsNone(running.slot_name(""))

    def test_the_page_names_both(self) -> None:
        self.assertEqual(self.client.get("/release/").json()["directory"], str(Path.cwd()))


class Environment(SimpleTestCase):
    def test_a_missing_secret_key_is_refused_outside_debug(self) -> None:
        with mock.patch.dict(os.environ, {"SECRET_KEY": ""}):
            self.assertTrue(environment.secret_key(debug=True))
            with self.assertRaisesRegex(ImproperlyConfigured, "^SECRET_KEY is not set"):
                environment.secret_key(debug=False)

    def test_a_flag_that_is_neither_yes_nor_no_is_refused(self) -> None:
        maybe = mock.patch.dict(os.environ, {"DEBUG": "maybe"})
        with maybe, self.assertRaisesRegex(ImproperlyConfigured, "DEBUG is 'maybe': write 1 or 0."):
            environment.flag("DEBUG")
