from django.apps import AppConfig


class BookConfig(AppConfig):
    """The notebook, known to Django as `book`."""

    name = "notes.book"
    verbose_name = "Notebook"
