"""The real Compose files on a real Docker engine; ``make test-compose`` runs them."""
