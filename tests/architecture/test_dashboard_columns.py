"""The dashboard's lists of result columns are those of the registry."""

import json
import re
from pathlib import Path

import pytest

from shared.domain.architecture import LayerConfig
from shared.domain.results.columns import COLUMN, COLUMNS

DASHBOARD = Path(__file__).parents[2] / "api/dashboard"


def names(file: str, constant: str) -> list[str]:
    """The first text of every element, or the keys, of a constant in a module."""
    source = (DASHBOARD / file).read_text()
    literal = r"(\[[^\n]*\]$|[\[{].*?^[\]}])"
    found = re.search(rf"const {constant} = {literal}", source, re.DOTALL | re.MULTILINE)
    assert found is not None
    literal = re.sub(
        r",(\s*[\]}])", r"\1", re.sub(r"^(\s+)(\w+):", r'\1"\2":', found[1], flags=re.M)
    )
    return [item if isinstance(item, str) else item[0] for item in json.loads(literal)]


def test_points_offer_every_plottable_column_in_the_scatter_view() -> None:
    plottable = {column.name for column in COLUMNS if column.plottable}
    assert set(names("views/scatter.js", "POINT_FIELDS")) == plottable


def test_the_scatter_view_names_the_device_model_of_columns_that_depend_on_it() -> None:
    per_device = {column.name for column in COLUMNS if column.plottable and column.per_device}
    assert set(names("views/scatter.js", "PER_DEVICE")) == per_device


def test_better_directions_are_those_of_plottable_columns() -> None:
    assert {COLUMN[name].plottable for name in names("views/scatter.js", "BETTER")} == {True}


def test_the_leaderboard_sorts_by_sortable_columns() -> None:
    assert {COLUMN[name].sortable for name in names("views/leaderboard.js", "COLUMNS")} == {True}


@pytest.mark.parametrize("name", names("lib/filters.js", "NAMES"))
def test_suggested_filters_name_filterable_columns_or_fields_of_layers(name: str) -> None:
    column, _, layer = name.rstrip("=").partition("[")
    if layer:
        assert column in LayerConfig._fields
    else:  # device models are chosen by a parameter of their own
        assert COLUMN[column].filterable or column == "device"
