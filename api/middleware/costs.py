"""The cost of a request by its path: how many ordinary requests of the budget it takes."""

import re

_ID = "[0-9]+"
COSTS = tuple(
    (re.compile(pattern), cost)
    for pattern, cost in (
        ("/v1/sweeps/preview", 10),
        (f"/v1/sweeps/{_ID}/points", 10),
        (f"/v1/sweeps/{_ID}/analysis/.+", 10),
        (f"/v1/sweeps/{_ID}/probe-vs-trained", 10),
        (f"/v1/jobs/{_ID}/(answers|comparison/.+)", 10),
        (f"/v1/sweeps/{_ID}/plots/.+", 50),
        (f"/v1/sweeps/{_ID}/probe-vs-trained[.].+", 50),
        (f"/v1/sweeps/{_ID}/export[.].+", 50),
    )
)


def cost_of(path: str) -> int:
    """Returns the cost of a request for ``path``, 1 for most."""
    return next((cost for pattern, cost in COSTS if pattern.fullmatch(path)), 1)
