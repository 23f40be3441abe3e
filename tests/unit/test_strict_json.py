"""Strict JSON: what Python would accept and JSON does not have is refused with its reason."""

import json
from typing import Any

import pytest

from shared.strict_json import StrictJsonError, describe_syntax_error, parse_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5e3, "x", null, true]}', {"a": [1, -2500.0, "x", None, True]}),
        (b'"\xc3\xa9"', "é"),
        ("9007199254740993", 9007199254740993),
        ('{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_json_is_read(text: str, value: Any) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is not a number in JSON"),
        ('{"a": [Infinity]}', "Infinity is not a number in JSON"),
        ("-Infinity", "-Infinity is not a number in JSON"),
        ("1e999", "1e999 is too large a number"),
        ("9" * 5000, "is too large a number"),
        ('{"a": 1, "b": 2, "a": 3}', "the name 'a' occurs twice in an object"),
        ('[{"x": {"y": 1, "y": 1}}]', "the name 'y' occurs twice in an object"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    ],
)
def test_what_json_does_not_have_is_refused(text: str, reason: str) -> None:
    with pytest.raises(StrictJsonError, match=reason):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ('{"preset": "quick",}', "line 1, column 20: a comma before '}' has no value after it"),
        ("[\n  1,\n]", "line 3, column 1: a comma before ']' has no value after it"),
        ('{"a": ', "line 1, column 7: the text ends too early"),
        ("{'a': 1}", "line 1, column 2: Expecting property name enclosed in double quotes"),
    ],
)
def test_a_syntax_error_is_described_with_its_line_and_column(text: str, description: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse_json(text)
    assert describe_syntax_error(caught.value).startswith(description)
