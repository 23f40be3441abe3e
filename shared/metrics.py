"""What all metrics of the project have in common."""

from prometheus_client import CollectorRegistry, disable_created_metrics

REQUEST_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600,
)  # fmt: skip
TRIAL_BUCKETS_S = (
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100,
)  # fmt: skip
EPOCH_BUCKETS_S = (
    0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600,
)  # fmt: skip


def new_registry() -> CollectorRegistry:
    """Returns an empty registry; a process has one, its metrics have no ``_created`` twins."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()
