"""Integration tests of live."""
