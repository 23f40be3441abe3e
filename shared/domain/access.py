"""What an API key permits: its scope."""

from enum import StrEnum


class KeyScope(StrEnum):
    """What a key permits. Each scope includes the ones before it."""

    READ = "read"  # sweeps, jobs, results, workers, metrics
    WRITE = "write"  # creating and controlling sweeps
    ADMIN = "admin"  # creating and revoking keys

    def includes(self, needed: "KeyScope") -> bool:
        """Says whether a key of this scope permits what needs the scope ``needed``."""
        order = list(KeyScope)
        return order.index(self) >= order.index(needed)
