"""The cost of a request by its path: how many ordinary requests of the budget it takes."""

import re

_ID = "[0-9]+"


def _paths(**costs: int) -> tuple[tuple[re.Pattern[str], int], ...]:
    return tuple((re.compile(pattern), cost) for pattern, cost in costs.items())


COMPUTED = _paths(
    **{
        "/v1/sweeps/preview": 10,
        f"/v1/sweeps/{_ID}/points": 10,
        f"/v1/sweeps/{_ID}/analysis/.+": 10,
        f"/v1/sweeps/{_ID}/probe-vs-trained": 10,
        f"/v1/jobs/{_ID}/(answers|comparison/.+)": 10,
        f"/v1/sweeps/{_ID}/plots/.+": 50,
        f"/v1/sweeps/{_ID}/probe-vs-trained[.].+": 50,
    }
)
STREAMED = _paths(**{f"/v1/sweeps/{_ID}/export[.].+": 50})


def cost_of(path: str) -> int:
    """Returns the cost of a request for ``path``, 1 for most."""
    costs = (cost for pattern, cost in (*COMPUTED, *STREAMED) if pattern.fullmatch(path))
    return next(costs, 1)


def is_computed(path: str) -> bool:
    """Returns whether the answer comes from the processes that compute."""
    return any(pattern.fullmatch(path) for pattern, _ in COMPUTED)
