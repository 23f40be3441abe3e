"""How sure a mean over trials is: standard error and interval. Formulas: docs/protocol.md."""

import math
from functools import lru_cache
from typing import NamedTuple

from scipy.special import stdtrit

from shared.protocol import MAX_TRIALS

CONFIDENCE = 0.95


class MeanInterval(NamedTuple):
    """Standard error of a mean, and its interval; None where one trial says nothing of it."""

    error: float | None
    low: float | None
    high: float | None


@lru_cache(maxsize=MAX_TRIALS)
def t_quantile(trials: int) -> float:
    """Returns the quantile of Student's t that an interval over so many trials spans."""
    return float(stdtrit(trials - 1, 0.5 + CONFIDENCE / 2))


def mean_interval(mean: float | None, sd: float | None, trials: int) -> MeanInterval:
    """Returns sd / sqrt(n), and the mean with t(n - 1) times that to both sides."""
    if mean is None or sd is None or trials < 2:
        return MeanInterval(None, None, None)
    error = sd / math.sqrt(trials)
    reach = t_quantile(trials) * error
    return MeanInterval(error, mean - reach, mean + reach)
