"""SQL about groups that are due for a hint."""
