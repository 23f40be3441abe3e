"""Integration tests of plotting."""
