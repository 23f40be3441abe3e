"""The commands, one module per capability."""
