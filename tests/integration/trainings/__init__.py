"""Integration tests of trainings."""
