"""Comparing devices: reference runs, drift, factors of units, fits across models."""
