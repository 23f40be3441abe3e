"""The embedded cluster: its servers, its supervisor, and how to find it."""
