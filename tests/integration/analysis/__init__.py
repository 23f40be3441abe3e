"""Integration tests of analysis."""
