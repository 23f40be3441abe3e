"""The filters as OpenAPI parameters; services/leaderboard/filters.py parses them."""

from typing import Any

from services.leaderboard.filters import DEVICE
from shared.domain.results.columns import CHOICES, FILTERABLE, LAYER_COLUMNS, Column

_EXAMPLES = {
    "accuracy": "0.3..",
    "throughput": "1000..5000",
    "ratio": "..0.5",
    "status": "completed|rejected",
    DEVICE: "NVIDIA H100 80GB HBM3",
}


def _field(column: Column) -> dict[str, Any]:
    takes = f"{column.kind.value}, ranges such as 1..2, 1.. or ..2"
    if column.kind in CHOICES:
        takes = " | ".join(choice.value for choice in CHOICES[column.kind])
    unit = f" Unit: {column.unit}." if column.unit else ""
    return {
        "name": column.name,
        "in": "query",
        "required": False,
        "description": f"{column.description}{unit} Filter: {takes}; separate several by |.",
        "schema": {"type": "string"},
        **({"example": _EXAMPLES[column.name]} if column.name in _EXAMPLES else {}),
    }


def _layer_field(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "style": "deepObject",
        "explode": True,
        "description": f"Filter by a layer, counted from 0: {name}[0]=VALUES.",
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
        "description": "Device model whose throughputs and fitness are shown; default: the model "
        "that timed most networks. Accuracies are those of all devices.",
        "schema": {"type": "string"},
        "example": _EXAMPLES[DEVICE],
    }


FILTER_PARAMETERS: dict[str, Any] = {
    "parameters": [
        *map(_field, FILTERABLE.values()),
        _device(),
        *map(_layer_field, LAYER_COLUMNS),
    ]
}
