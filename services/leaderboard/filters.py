"""The grammar of filters and sort keys, the same in a URL and in a shell: docs/filters.md."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.domain.errors import InvalidFilterError, InvalidInputError, UnknownFilterError
from shared.domain.results.columns import CHOICES, FILTERABLE, LAYER_COLUMNS, SORTABLE, Kind
from shared.domain.results.ranking import (
    RANKED,
    Condition,
    Range,
    SortKey,
    Value,
    not_slower_than,
)
from shared.domain.space import MAX_COUNT, MAX_LAYERS

DEVICE = "device"
KNOWN_FILTERS = (*FILTERABLE, DEVICE, *(f"{name}[LAYER]" for name in LAYER_COLUMNS))
DEFAULT_SORT = "-accuracy"
MAX_VALUES = 100  # of one field
MAX_SORT_KEYS = 5
_LAYER_NAME = re.compile(r"(?P<field>[a-z_]+)\[(?P<layer>\d{1,3})\]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_COUNT = re.compile(r"\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on rows, and the device model of the throughputs: see ``device_choice``."""

    conditions: tuple[Condition, ...] = ()
    device: str | None = None

    def uses(self, field: str) -> bool:
        """Says whether there is a condition on a column."""
        return any(condition.field == field for condition in self.conditions)

    def with_defaults(self, min_throughput: float | None) -> "Filters":
        """Returns these filters with those that apply unless they name a status or throughput.

        Only ranked jobs are shown, and none that is known to be slower than ``min_throughput``.
        """
        if self.uses("status"):
            return self
        added = [RANKED]
        if min_throughput is not None and not self.uses("throughput"):
            added.append(not_slower_than(min_throughput))
        return Filters((*self.conditions, *added), self.device)


def parse_filters(pairs: Iterable[tuple[str, str]], also_known: Sequence[str] = ()) -> Filters:
    """Returns the filters of (name, values) pairs.

    A name given twice is the same as one with all its values.

    Args:
        also_known: other parameters, which the message about an unknown name lists too.

    Raises:
        UnknownFilterError: there is no such column; the message lists the known ones.
        InvalidFilterError: a value does not fit its column; the message says what fits.
    """
    devices: list[str] = []
    values_of: dict[tuple[str, int | None], list[Value | Range]] = {}
    for name, text in pairs:
        if name == DEVICE:
            devices += _split(name, text)
            continue
        field, layer, kind = _resolve(name, also_known)
        values_of.setdefault((field, layer), []).extend(
            _parse_value(name, kind, part) for part in _split(name, text)
        )
    for (field, _), values in values_of.items():
        _check_count(field, values)
    if len(devices) > 1:
        raise InvalidFilterError(
            "device: name one model; throughputs of several are not comparable.", field=DEVICE
        )
    conditions = (
        Condition(field, tuple(values), layer) for (field, layer), values in values_of.items()
    )
    return Filters(tuple(conditions), devices[0] if devices else None)


def parse_sort(text: str) -> tuple[SortKey, ...]:
    """Returns the sort keys in ``-accuracy,throughput``; a minus sorts in descending order.

    Raises:
        InvalidInputError: a key is unknown or repeated, or there are too many keys.
    """
    keys = tuple(SortKey(part.removeprefix("-"), part.startswith("-")) for part in text.split(","))
    known = ", ".join(SORTABLE)
    for key in keys:
        if key.field not in SORTABLE:
            raise InvalidInputError(
                f"Cannot sort by {key.field!r}; known are {known}.", field="sort"
            )
    if len({key.field for key in keys}) < len(keys) or len(keys) > MAX_SORT_KEYS:
        raise InvalidInputError(
            f"sort takes up to {MAX_SORT_KEYS} fields, each of them once.", field="sort"
        )
    return keys


def _resolve(name: str, also_known: Sequence[str]) -> tuple[str, int | None, Kind]:
    if name in FILTERABLE:
        return name, None, FILTERABLE[name].kind
    layered = _LAYER_NAME.fullmatch(name)
    if layered and layered["field"] in LAYER_COLUMNS:
        layer = int(layered["layer"])
        if layer >= MAX_LAYERS:
            raise InvalidFilterError(
                f"{name}: layers are counted from 0 to {MAX_LAYERS - 1}.", field=name
            )
        return layered["field"], layer, LAYER_COLUMNS[layered["field"]]
    known = ", ".join((*KNOWN_FILTERS, *sorted(also_known)))
    raise UnknownFilterError(f"Unknown filter {name!r}; known are {known}.", field=name)


def _split(name: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split("|")]
    if not all(parts):
        raise InvalidFilterError(f"{name}: a value is missing in {text!r}.", field=name)
    if any(not part.isprintable() for part in parts):
        raise InvalidFilterError(f"{name}: a value cannot be printed.", field=name)
    return parts


def _check_count(name: str, values: Sequence[object]) -> None:
    if len(values) > MAX_VALUES:
        raise InvalidFilterError(f"{name} takes up to {MAX_VALUES} values.", field=name)


def _parse_value(name: str, kind: Kind, text: str) -> Value | Range:
    if kind is Kind.TEXT:
        return text
    if kind in CHOICES:
        known = [choice.value for choice in CHOICES[kind]]
        if text not in known:
            raise InvalidFilterError(
                f"{name}: there is no {name} {text!r}; known are {', '.join(known)}.", field=name
            )
        return text
    low, dots, high = text.partition("..")
    if not dots:
        return _parse_number(name, kind, text)
    return _parse_range(name, kind, low, high)


def _parse_range(name: str, kind: Kind, low: str, high: str) -> Range:
    first, last = (_parse_number(name, kind, end) if end.strip() else None for end in (low, high))
    if first is None and last is None:
        raise InvalidFilterError(f"{name}: a range needs an end: 1.., ..2 or 1..2", field=name)
    if first is not None and last is not None and first > last:
        raise InvalidFilterError(
            f"{name}: {low}..{high} ends before it begins, so no row could pass.", field=name
        )
    return Range(first, last)


def _parse_number(name: str, kind: Kind, text: str) -> float | int:
    text = text.strip()
    pattern = _COUNT if kind is Kind.COUNT else _NUMBER
    if not pattern.fullmatch(text):
        raise InvalidFilterError(
            f"{name}: {text!r} is not {kind.value}, nor a range of them like 1..2", field=name
        )
    if kind is Kind.COUNT:
        return min(int(text), MAX_COUNT)
    number = float(text)
    if kind is Kind.FRACTION and not 0 <= number <= 1:
        raise InvalidFilterError(f"{name}: {text} is not {kind.value}.", field=name)
    if not math.isfinite(number):
        raise InvalidFilterError(f"{name}: {text} is too large.", field=name)
    return number
