"""Who may do what: the scopes of API keys."""

from enum import StrEnum


class Scope(StrEnum):
    """What a key is for. Each scope includes the ones before it."""

    READ = "read"  # sweeps, jobs, results, workers, metrics
    WRITE = "write"  # creating and steering sweeps
    ADMIN = "admin"  # making and revoking keys

    def includes(self, needed: "Scope") -> bool:
        """Says whether a key of this scope may do what ``needed`` is for."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)
