"""Views as people see them: their versions on disk, their rows, and queries over them."""
