"""Integration tests of dispatching."""
