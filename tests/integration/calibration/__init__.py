"""Integration tests of calibration."""
