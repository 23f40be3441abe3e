"""The fault matrix: real processes, real kills."""
