"""Integration tests of exports."""
