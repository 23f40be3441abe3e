"""Sweeps: preview, create, read, control, extend."""
