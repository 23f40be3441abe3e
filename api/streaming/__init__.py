"""Server-sent events: one look per watched sweep, shared by its streams."""
