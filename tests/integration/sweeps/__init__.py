"""Integration tests of sweeps."""
