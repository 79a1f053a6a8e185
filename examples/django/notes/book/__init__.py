"""The notebook itself: write notes, read them, attach a file."""
