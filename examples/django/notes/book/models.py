"""What the notebook keeps."""

from django.db import models
from django.urls import reverse


class Note(models.Model):
    """One note, with at most one file attached to it."""

    title = models.CharField(max_length=120)
    body = models.TextField(max_length=20_000)
    attachment = models.FileField(upload_to="attachments/%Y/%m", blank=True)
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-written", "-pk")

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("note", args=[self.pk])

    @property
    def attachment_name(self) -> str:
        """The file's name without the directories it is stored under."""
        return self.attachment.name.rpartition("/")[2]
