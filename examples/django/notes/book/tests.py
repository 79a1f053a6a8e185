from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from notes.book.models import Note
from notes.testing import NotesTestCase


class Writing(NotesTestCase):
    def test_a_note_is_written_and_listed(self) -> None:
        answer = self.client.post(reverse("write"), {"title": "Oats", "body": "Two sacks."}, follow=True)
        self.assertContains(answer, "<h1>Oats</h1>")
        self.assertContains(self.client.get(reverse("notes")), "Two sacks.")

    def test_an_empty_form_is_answered_with_what_is_missing(self) -> None:
        answer = self.client.post(reverse("write"), {"title": "", "body": ""})
        self.assertContains(answer, "This field is required.", status_code=422, count=2)
        self.assertFalse(Note.objects.exists())

    def test_a_post_without_the_csrf_token_is_refused(self) -> None:
        answer = Client(enforce_csrf_checks=True).post(reverse("write"), {"title": "a", "body": "b"})
        self.assertEqual(answer.status_code, 403)

    def test_what_people_write_is_escaped(self) -> None:
        note = Note.objects.create(title="<b>bold</b>", body="<script>x</script>")
        self.assertNotContains(self.client.get(note.get_absolute_url()), "<script>x")

    def test_an_empty_notebook_invites_to_write(self) -> None:
        self.assertContains(self.client.get(reverse("notes")), "Write the first note.")


class Attaching(NotesTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.note = Note.objects.create(title="Shoes", body="Size 5.")
        self.address = reverse("attach", args=[self.note.pk])

    def attach(self, name: str, content: bytes) -> None:
        answer = self.client.post(self.address, {"attachment": SimpleUploadedFile(name, content)})
        self.assertRedirects(answer, self.note.get_absolute_url())
        self.note.refresh_from_db()

    def test_the_file_comes_back_as_a_download(self) -> None:
        self.attach("plan.html", b"<p>hello</p>")
        answer = self.client.get(reverse("attachment", args=[self.note.pk]))
        self.assertEqual(b"".join(answer.streaming_content), b"<p>hello</p>")
        self.assertEqual(answer["Content-Disposition"], 'attachment; filename="plan.html"')

    def test_a_second_file_takes_the_place_of_the_first(self) -> None:
        self.attach("one.txt", b"1")
        storage, first = self.note.attachment.storage, self.note.attachment.name
        self.attach("two.txt", b"2")
        self.assertFalse(storage.exists(first))
        self.assertEqual(self.note.attachment_name, "two.txt")

    def test_a_form_without_a_file_is_answered_with_what_is_missing(self) -> None:
        self.assertContains(self.client.post(self.address), "This field is required.", status_code=422)

    def test_a_note_without_attachment_has_none_to_download(self) -> None:
        self.assertEqual(self.client.get(reverse("attachment", args=[self.note.pk])).status_code, 404)
