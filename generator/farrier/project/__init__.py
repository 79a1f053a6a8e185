"""The project file: read, checked, found by looking at an application."""
