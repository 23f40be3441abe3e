"""The registry of result columns feeds every place that its entries name, and nothing else does."""

import csv
import io
from collections.abc import Iterable
from typing import Any, get_type_hints

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.app import create_app
from convsweep.answers import RankedNetwork
from shared.domain.results.choices import Target
from shared.domain.results.columns import (
    COLUMN,
    COLUMNS,
    LAYER_COLUMNS,
    SORTABLE,
    TRIAL_COLUMNS,
    Column,
    Kind,
)
from shared.settings import Settings
from tests.integration.leaderboard.columns_page import PAGE, with_tables
from tests.integration.scenario import add_sweep, finish_sweep

VALUES = {Kind.STATUS: "completed", Kind.REASON: "non_finite"}  # other kinds are numbers
JSON_TYPES = {
    Kind.FRACTION: "number", Kind.NUMBER: "number", Kind.COUNT: "integer", Kind.FLAG: "boolean",
}  # fmt: skip


def names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def having(use: str) -> list[str]:
    """Returns the names of the columns that the registry marks with a use."""
    return names(column for column in COLUMNS if getattr(column, use))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def parameters(document: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    operation = document["paths"][f"/v1/sweeps/{{sweep_id}}/{path}"]["get"]
    return {parameter["name"]: parameter for parameter in operation["parameters"]}


def test_every_filterable_column_is_a_documented_parameter(document: dict[str, Any]) -> None:
    own = {"sweep_id", "fields", "fitness_weight", "device"} | set(LAYER_COLUMNS)
    described = parameters(document, "points")
    assert [name for name in described if name not in own] == having("filterable")
    for name in having("filterable"):
        assert COLUMN[name].description in described[name]["description"]


def test_the_api_lists_the_columns_to_sort_by_and_to_plot(document: dict[str, Any]) -> None:
    sort = parameters(document, "leaderboard")["sort"]["description"]
    assert sort.endswith(": " + ", ".join(having("sortable")))
    fields = parameters(document, "points")["fields"]["description"]
    assert fields.endswith(": " + ", ".join(having("plottable")))


def test_every_column_is_in_the_schema_with_its_type_and_meaning(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    ranked, trial = (schemas[name]["properties"] for name in ("LeaderOut", "TrialOut"))
    assert sorted(ranked) == sorted([*names(COLUMNS), "layers", "rank"])
    stored = [column for column in TRIAL_COLUMNS if column.table in ("trials", "timings")]
    assert sorted(trial) == sorted([*names(stored), "environment"])
    for properties, columns in ((ranked, COLUMNS), (trial, stored)):
        for column in columns:
            described = properties[column.name]
            assert described["description"].startswith(column.description)
            kinds = [described, *described.get("anyOf", [])]
            if column.kind in JSON_TYPES:
                assert JSON_TYPES[column.kind] in [kind.get("type") for kind in kinds]
            assert ("anyOf" in described) == (not column.required), column.name


def test_the_client_declares_every_column() -> None:
    assert sorted(get_type_hints(RankedNetwork)) == sorted([*names(COLUMNS), "layers", "rank"])


def test_targets_of_analyses_are_the_analysable_columns() -> None:
    assert sorted(Target) == sorted(having("analysable"))


def test_every_column_names_a_column_of_the_database(session: Session) -> None:
    for column in (*COLUMNS, *TRIAL_COLUMNS):
        if column.database is not None:
            session.execute(text(f"SELECT {column.database} FROM {column.table} LIMIT 0"))


def test_the_page_shows_the_registry() -> None:
    page = PAGE.read_text()
    assert page == with_tables(page), "run python -m tests.integration.leaderboard.columns_page"


@pytest.fixture
def sweep(api_url: str, session: Session) -> str:
    sweep_id = add_sweep(session)
    finish_sweep(session, sweep_id)
    return f"{api_url}/v1/sweeps/{sweep_id}"


def ask(url: str, **params: str) -> httpx.Response:
    return httpx.get(url, params=params).raise_for_status()


def test_the_api_filters_and_sorts_by_exactly_the_columns_that_say_so(sweep: str) -> None:
    for column in COLUMNS:
        value = VALUES.get(column.kind, "0..")
        filtered = httpx.get(f"{sweep}/leaderboard", params={column.name: value})
        known = column.filterable or column.name == "device"  # which names models, not values
        assert (filtered.json().get("code") == "unknown_filter") != known, column.name
        ordered = httpx.get(f"{sweep}/leaderboard", params={"sort": column.name})
        assert ordered.is_success == column.sortable, column.name


def test_rows_points_and_exports_have_the_columns_of_the_registry(sweep: str) -> None:
    (row, *_) = ask(f"{sweep}/leaderboard").json()["rows"]
    assert sorted(row) == sorted([*names(COLUMNS), "layers", "rank"])
    points = ask(f"{sweep}/points", fields=",".join(having("plottable"))).json()["columns"]
    assert list(points) == having("plottable")
    layers = [name for name in header(sweep) if name.rsplit("_", 1)[0] in LAYER_COLUMNS]
    assert [name for name in header(sweep) if name not in layers] == having("exportable")
    own = ["job_id", "architecture_hash", "status", *layers]
    trials = [name for name in header(sweep, rows="trials") if name not in own]
    assert trials == names(TRIAL_COLUMNS)


def header(sweep: str, **params: str) -> list[str]:
    return next(csv.reader(io.StringIO(ask(f"{sweep}/export.csv", **params).text)))


def test_a_listing_can_be_paged_by_every_sortable_column(sweep: str) -> None:
    for name in SORTABLE:
        first = ask(f"{sweep}/leaderboard", sort=name, page_size="5").json()
        token = first["next_page_token"]
        second = ask(f"{sweep}/leaderboard", sort=name, page_size="5", page_token=token).json()
        values = [row[name] for page in (first, second) for row in page["rows"]]
        assert values == sorted(values), name
