"""Results as streamed files."""
