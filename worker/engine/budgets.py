"""Memory budgets that turned out too large are remembered for the life of the process."""

import torch


class MemoryLimits:
    """The largest budget known to fit each device, learnt where a larger one did not.

    Later groups start from it, so that they neither fail again first nor cut images into chunks of
    changing sizes.
    """

    def __init__(self) -> None:
        self._limits: dict[torch.device, int] = {}

    def budget(self, device: torch.device, budget_bytes: int) -> int:
        """Returns the budget to start from."""
        return min(budget_bytes, self._limits.get(device, budget_bytes))

    def learn(self, device: torch.device, budget_bytes: int) -> None:
        """Remembers a budget that was enough after a larger one was not."""
        self._limits[device] = self.budget(device, budget_bytes)

    def forget(self) -> None:
        """Forgets all limits."""
        self._limits.clear()


MEMORY_LIMITS = MemoryLimits()
