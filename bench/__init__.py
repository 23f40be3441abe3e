"""Each performance claim of the project as one runnable module."""
