"""The networks that no other network beats in both measures."""

import numpy as np

from shared.domain.arrays import FloatArray, IntArray


def pareto_front(first: FloatArray, second: FloatArray) -> IntArray:
    """Returns which points (n,) no other one dominates, more being better in both.

    A point is dominated by one that is at least as good in both and better in one; so of equal
    points all are on the front, or none. Exact, in O(n log n). Ordered by ``first``, falling,
    equal points by their place.
    """
    if not len(first):
        return np.zeros(0, np.int64)
    order = np.lexsort((-second, -first))  # best first; a run has the same ``first``
    x, y = first[order], second[order]
    starts = np.flatnonzero(np.r_[True, x[1:] != x[:-1]])
    best_of_run = y[starts]  # the run's own order is by ``second``, falling
    best_before = np.r_[-np.inf, np.maximum.accumulate(best_of_run)[:-1]]
    run = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(x)]))
    on_front = (y == best_of_run[run]) & (y > best_before[run])
    front: IntArray = order[on_front]
    return front
