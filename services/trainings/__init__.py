"""Trainings: choose networks, create, control, read, compare with the probe."""
