"""SQL that reads results as columns for statistics."""
