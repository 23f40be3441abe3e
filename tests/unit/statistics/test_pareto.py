"""The Pareto front against its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.analysis.statistics.pareto import pareto_front
from shared.domain.arrays import FloatArray

POINTS = arrays.arrays(np.float64, st.tuples(st.just(2), st.integers(0, 60)),
                       elements=st.integers(0, 6).map(float))  # fmt: skip


@given(POINTS)
def test_the_front_is_exactly_what_nothing_dominates_with_many_ties(points: FloatArray) -> None:
    x, y = points
    front = pareto_front(x, y)
    wanted = {
        i
        for i in range(len(x))
        if not ((x >= x[i]) & (y >= y[i]) & ((x > x[i]) | (y > y[i]))).any()
    }
    assert set(front.tolist()) == wanted
    assert len(front) == len(wanted)
    assert (np.diff(x[front]) <= 0).all()
    assert (np.diff(y[front]) >= 0).all()
