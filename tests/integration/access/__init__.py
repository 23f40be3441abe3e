"""Integration tests of access."""
