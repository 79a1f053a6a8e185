"""All addresses of the application."""

from django.urls import include, path

urlpatterns = [
    path("", include("notes.book.urls")),
    path("", include("notes.operations.urls")),
]
