"""SQL about trainings: creating, controlling and reading them."""
