"""The project file: read, checked, and written from what an application shows."""
