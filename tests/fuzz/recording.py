"""Real answers of a real API, recorded as the examples of its description."""

from typing import Any

import httpx

from tests.fuzz.sweeps import OPEN, TRAININGS, UNTOUCHED

Json = dict[str, Any]

# In this order; everything that is read is asked afterwards, whatever it is.
CHANGES: list[tuple[str, Json | None]] = [
    ("preview", {"preset": "quick"}),
    ("create", {"preset": "quick", "protocol": {"trials": 1}}),
    ("control_sweep", None),
    ("extend", {"trials": 4, "top": 2}),
    ("bridge", {"devices": ["a processor"], "share": 0.5}),
    ("calibrated", {"device": "a processor"}),
    ("create_trainings", {"select": {"by": "rank", "count": 2}, "channels": [32, 128]}),
    ("control_training", None),
    ("control_trainings", None),
    ("create_key", {"name": "notebook", "scope": "read", "lifetime_days": 90}),
    ("revoke_key", None),
]
PLACES: Json = {
    "sweep_id": UNTOUCHED[0],
    "job_id": 1,
    "other_id": UNTOUCHED[1],
    "training_id": 1,
    "action": "pause",
}
CHANGED: Json = {"sweep_id": OPEN[-1], "training_id": TRAININGS}
NO_KEY = "csw_0123456789ab_" + "x" * 43


def operations(document: Json) -> dict[str, tuple[str, str, Json]]:
    """Returns (method, path, operation) by the operation's id."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def record(document: Json, client: httpx.Client) -> Json:
    """Returns, by operation, what the API answers with JSON when it is asked for what is there."""
    found = operations(document)
    asked = [*CHANGES, *((name, None) for name, (method, _, _) in found.items() if method == "GET")]
    recorded: Json = {}
    places = dict(PLACES)
    for name, body in asked:
        method, path, operation = found[name]
        described = operation["responses"].get("200", {}).get("content", {"application/json": {}})
        if "application/json" not in described:
            continue
        at = places if method == "GET" else places | CHANGED
        answer = client.request(method, path.format(**at), json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        shown = shortened(answer.json())
        if name == "create_key":
            places["prefix"], shown["key"] = shown["prefix"], NO_KEY
        recorded[name] = {"responses": {str(answer.status_code): shown}}
        if body is not None:
            recorded[name]["request"] = body
    return dict(sorted(recorded.items()))


def shortened(answer: Any) -> Any:
    """Returns an answer with at most two rows in any list of objects."""
    if isinstance(answer, dict):
        return {name: shortened(value) for name, value in answer.items()}
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return [shortened(value) for value in answer[:2]]
    return answer


def shape(value: Any) -> Any:
    """Returns which fields an answer has, without what is in them."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1] if isinstance(inner, dict)]
    return None
