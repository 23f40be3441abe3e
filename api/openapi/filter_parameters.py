"""How the filters look in the OpenAPI description; services/leaderboard/filters.py reads them."""

from typing import Any

from services.leaderboard.filters import DEVICE
from shared.domain.ranking import CHOICES, FIELDS, LAYER_FIELDS, Kind

_EXAMPLES = {
    "accuracy": "0.3..",
    "throughput": "1000..5000",
    "ratio": "..0.5",
    "status": "completed|rejected",
    DEVICE: "any",
}


def _field(name: str, kind: Kind) -> dict[str, Any]:
    takes = f"{kind.value}, ranges such as 1..2, 1.. or ..2"
    if kind in CHOICES:
        takes = " | ".join(choice.value for choice in CHOICES[kind])
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": f"Filter: {takes}; several separated by |.",
        "schema": {"type": "string"},
        **({"example": _EXAMPLES[name]} if name in _EXAMPLES else {}),
    }


def _layer_field(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "style": "deepObject",
        "explode": True,
        "description": f"Filter by a layer, counted from 0, as {name}[0]=VALUES.",
        "schema": {
            "type": "object",
            "patternProperties": {"^[0-9]+$": {"type": "string"}},
            "additionalProperties": False,
        },
    }


def _device() -> dict[str, Any]:
    return {
        "name": DEVICE,
        "in": "query",
        "required": False,
        "description": "Device models, separated by |, or `any` to mix them; without it the one "
        "with the most completed jobs.",
        "schema": {"type": "string"},
        "example": _EXAMPLES[DEVICE],
    }


FILTER_PARAMETERS: dict[str, Any] = {
    "parameters": [
        *(_field(name, kind) for name, kind in FIELDS.items()),
        _device(),
        *(_layer_field(name) for name in LAYER_FIELDS),
    ]
}
