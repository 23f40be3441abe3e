"""SQL about what changed in a sweep."""
