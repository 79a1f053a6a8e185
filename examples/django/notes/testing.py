"""What the tests of this application share."""

import tempfile

from django.test import TestCase, override_settings


class NotesTestCase(TestCase):
    """Without collected static files, and with uploads in a directory that is gone afterwards."""

    def setUp(self) -> None:
        media = tempfile.TemporaryDirectory(prefix="notes-test-")
        self.addCleanup(media.cleanup)
        overridden = override_settings(
            MEDIA_ROOT=media.name,
            STORAGES={
                "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
                "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
            },
        )
        overridden.enable()
        self.addCleanup(overridden.disable)
