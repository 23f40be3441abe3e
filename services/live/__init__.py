"""Changes of a sweep since a cursor."""
