"""The pages of the notebook."""

import logging

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from notes.book.forms import AttachmentForm, NoteForm
from notes.book.models import Note

logger = logging.getLogger(__name__)
NEWEST = 50


@require_safe
def note_list(request: HttpRequest) -> HttpResponse:
    """The newest notes; older ones keep their addresses."""
    return render(request, "book/list.html", {"notes": Note.objects.all()[:NEWEST], "newest": NEWEST})


@require_safe
def note(request: HttpRequest, pk: int) -> HttpResponse:
    """One note, whole."""
    return render(request, "book/note.html", {"note": get_object_or_404(Note, pk=pk)})


@require_http_methods(["GET", "HEAD", "POST"])
def write(request: HttpRequest) -> HttpResponse:
    """The form for a new note."""
    form = NoteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        written = form.save()
        logger.info("note %d was written", written.pk)
        return redirect(written)
    return render(request, "book/write.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def attach(request: HttpRequest, pk: int) -> HttpResponse:
    """The form that attaches a file to a note; a second file takes the place of the first."""
    target = get_object_or_404(Note, pk=pk)
    previous = target.attachment.name
    if request.method == "POST":
        form = AttachmentForm(request.POST, request.FILES, instance=target)
        if form.is_valid():
            attached = form.save()
            if previous:
                attached.attachment.storage.delete(previous)
            logger.info("note %d got an attachment of %d bytes", attached.pk, attached.attachment.size)
            return redirect(attached)
    else:
        form = AttachmentForm()
    # An invalid form leaves its file on the note in memory; the page shows the one that is stored.
    stored = get_object_or_404(Note, pk=pk)
    return render(request, "book/attach.html", {"form": form, "note": stored}, status=422 if form.errors else 200)


@require_safe
def attachment(request: HttpRequest, pk: int) -> FileResponse:
    """The attached file, always as a download: a stranger's HTML must not run under our name."""
    source = get_object_or_404(Note, pk=pk)
    if not source.attachment:
        raise Http404("This note has no attachment.")
    return FileResponse(source.attachment.open(), as_attachment=True, filename=source.attachment_name)
