"""The reference networks, timed regularly: they show how fast a device is, and whether it stays so.

A version is never changed: figures of one version are compared over months and machines. Another
choice of networks is another version.
"""

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.protocol import Timing

VERSION = 1
INPUT_SHAPE = (3, 96, 96)
TIMING = Timing(batch_size=16, max_s=0.25, max_spread=0.01)
MAX_DRIFT = 0.03  # a device whose speed changes by more was not in one state in between
EVERY_S, EVERY_TIMINGS = 600.0, 500


def _network(*layers: tuple[int, int, int]) -> Architecture:
    """Returns a network of (channels, kernel size, stride) per layer."""
    return Architecture(tuple(LayerConfig(*layer, 1, 0, "relu") for layer in layers))


NETWORKS: tuple[Architecture, ...] = (
    # so small that starting the kernels takes most of the time
    _network((4, 3, 3), (4, 3, 3), (4, 3, 3)),
    _network((8, 5, 3), (8, 3, 3), (8, 3, 2)),
    _network((4, 7, 3), (8, 5, 3), (4, 3, 1)),
    _network((8, 9, 3), (4, 3, 2), (4, 5, 3)),
    # kernels of one pixel: reading and writing activations takes most of the time
    _network((32, 1, 1), (32, 1, 1), (32, 1, 1)),
    _network((64, 1, 1), (16, 1, 1), (64, 1, 1)),
    _network((16, 1, 1), (64, 1, 1), (16, 1, 1)),
    _network((48, 1, 1), (48, 1, 1), (8, 1, 1)),
    # arithmetic takes most of the time
    _network((32, 3, 2), (64, 3, 1), (64, 3, 1)),
    _network((32, 5, 2), (32, 5, 1), (32, 5, 1)),
    _network((64, 7, 3), (64, 5, 1), (64, 3, 1)),
    _network((16, 9, 2), (32, 7, 1), (32, 5, 2)),
)
