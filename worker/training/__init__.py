"""Training of a leased network: trainer and checkpoint files."""
