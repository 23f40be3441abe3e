"""Filters as ``NAME=VALUES`` texts, and options, as query parameters."""

from collections.abc import Iterable, Mapping
from typing import Any

from convsweep.errors import InvalidFilterError

Parameters = list[tuple[str, str]]


def parse_assignments(where: str | Iterable[str]) -> Parameters:
    """Returns the (name, values) pairs of ``NAME=VALUES`` texts.

    Args:
        where: filters such as ``accuracy=0.3..``; a single text is one filter.

    Raises:
        InvalidFilterError: a text has no name or no equals sign.
    """
    return [_pair(text) for text in ([where] if isinstance(where, str) else where)]


def _pair(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not name or not equals:
        raise InvalidFilterError(
            f"{text!r} is not a filter; write NAME=VALUES, for example accuracy=0.3.. or "
            "kernel_size[0]=5|7."
        )
    return name.strip(), values


def to_parameters(where: str | Iterable[str], options: Mapping[str, Any]) -> Parameters:
    """Returns filters and options as query parameters.

    A list gives one parameter per element; an option that is None is left out.
    """
    pairs = parse_assignments(where)
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(element)) for element in values if element is not None]
    return pairs
