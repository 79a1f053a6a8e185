from django.urls import path

from notes.operations import views

urlpatterns = [
    path("health/", views.health, name="health"),
    path("release/", views.release, name="release"),
    path("work/", views.work, name="work"),
]
