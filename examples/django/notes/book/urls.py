from django.urls import path

from notes.book import views

urlpatterns = [
    path("", views.note_list, name="notes"),
    path("notes/new/", views.write, name="write"),
    path("notes/<int:pk>/", views.note, name="note"),
    path("notes/<int:pk>/attach/", views.attach, name="attach"),
    path("notes/<int:pk>/attachment/", views.attachment, name="attachment"),
]
