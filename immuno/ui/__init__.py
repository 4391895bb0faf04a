"""The explorer: the record as pages. Read-only: its store refuses writes, and it answers GET alone."""
