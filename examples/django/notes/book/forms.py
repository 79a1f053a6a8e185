"""The two forms of the notebook."""

from django import forms

from notes.book.models import Note


class NoteForm(forms.ModelForm):
    """Writes a new note."""

    class Meta:
        model = Note
        fields = ("title", "body")
        widgets = {"body": forms.Textarea(attrs={"rows": 10})}


class AttachmentForm(forms.ModelForm):
    """Attaches a file to a note that exists; here, unlike in the model, the file is required."""

    attachment = forms.FileField(label="File", widget=forms.FileInput)

    class Meta:
        model = Note
        fields = ("attachment",)
