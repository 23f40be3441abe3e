"""SQL about API keys."""
