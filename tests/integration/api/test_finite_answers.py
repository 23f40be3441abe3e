"""No route answers with a number that JSON does not have, whatever the results are."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from api.app import create_app
from shared.db.session import make_engine, make_session_factory
from shared.domain.results.choices import CorrelationMethod, ExportRows, PlotKind, Target
from shared.settings import Settings
from shared.strict_json import parse_json
from tests.conftest import migrate, serving
from tests.fuzz.sweeps import fill
from tests.integration.database.test_migrations import MEASURED

NOT_FINITE = re.compile(rb"(?<![\w-])-?(NaN|Infinity|inf|nan)(?![\w-])")
TEXTS = ("json", "text", "event-stream")
NULLABLE = {
    "jobs": [*MEASURED["jobs"], "parameters", "flops", "environment_id"],
    "timings": ["spread", "runs"],
    "training_epochs": ["images_per_s"],
}
PLACES = {"sweep_id": [1, 3], "job_id": [1, 5], "other_id": [2], "training_id": [1, 6]}
CHOICES: dict[str, list[Any]] = {
    "kind": list(PlotKind),
    "file_format": ["svg"],
    "form": ["csv", "jsonl"],
    "table_format": ["md", "csv"],
    "prefix": ["0" * 12],
    "target": list(Target),
    "method": list(CorrelationMethod),
    "rows": list(ExportRows),
}


def assign(columns: dict[str, list[str]], value: str) -> list[str]:
    return [
        f"UPDATE {table} SET {', '.join(f'{column} = {value}' for column in names)}"
        for table, names in columns.items()
    ]


FRACTIONS = ("accuracy", "accuracy_sd", "accuracy_min", "accuracy_max", "train_accuracy",
             "validation_accuracy")  # fmt: skip
OTHERS = {
    table: [name for name in names if name not in FRACTIONS] for table, names in MEASURED.items()
}
SMALLEST = [
    re.sub(r"(throughput\w*|images_per_s) = 0", r"\1 = 1e-15", statement)
    for statement in assign({table: list(names) for table, names in MEASURED.items()}, "0")
]
DATA: dict[str, list[str]] = {
    "null": assign(NULLABLE, "NULL"),
    "zero": SMALLEST,
    "largest": [
        *assign(OTHERS, "1e15"),
        "UPDATE training_epochs SET train_loss = 1e300, validation_loss = -1e300",
        "UPDATE jobs SET parameters = 9223372036854775807, flops = 9223372036854775807",
    ],
    "smallest and largest": [
        *SMALLEST,
        "UPDATE jobs SET ratio = 1e15, accuracy = 1 WHERE id % 2 = 0",
        "UPDATE jobs SET ratio = 5e-324, accuracy = 5e-324 WHERE id % 2 = 1",
        "UPDATE throughputs SET throughput = CASE job_id % 2 WHEN 0 THEN 1e15 ELSE 1e-15 END",
    ],
    "not finite": [  # as a database may have that was filled before its rules
        "ALTER TABLE jobs DROP CONSTRAINT jobs_measured",
        *assign({"jobs": list(MEASURED["jobs"])}, "'NaN'"),
    ],
    "infinite": [
        "ALTER TABLE jobs DROP CONSTRAINT jobs_measured",
        *assign({"jobs": list(MEASURED["jobs"])}, "'Infinity'"),
    ],
}


@pytest.fixture(scope="module", params=list(DATA))
def extreme(
    request: pytest.FixtureRequest, new_database: Callable[[str], Settings]
) -> Iterator[tuple[str, httpx.Client]]:
    """What is extreme, and a client of an API on a database of such results."""
    settings = new_database(f"extreme_{list(DATA).index(request.param)}")
    migrate(settings)
    engine = make_engine(settings)
    with make_session_factory(engine)() as session:
        fill(session)
    change(engine, DATA[request.param])
    engine.dispose()
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield request.param, client


def change(engine: Engine, statements: list[str]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def paths() -> Iterator[str]:
    """Yields every GET route with every choice and several rows, all options included."""
    for path, methods in create_app(Settings()).openapi()["paths"].items():
        if "get" not in methods or path.endswith("/events"):
            continue
        options = [p["name"] for p in methods["get"].get("parameters", []) if p["in"] == "query"]
        if "plots" in path:
            options = []  # they draw what the analyses answer
        names = [*re.findall(r"\{(\w+)\}", path), *(n for n in options if n in CHOICES)]
        for values in itertools.product(*((PLACES | CHOICES)[name] for name in names)):
            filled = dict(zip(names, values, strict=True))
            query = "&".join(f"{n}={v}" for n, v in filled.items() if f"{{{n}}}" not in path)
            yield path.format(**filled) + (f"?{query}" if query else "")


def test_no_route_answers_with_a_number_that_json_does_not_have(
    extreme: tuple[str, httpx.Client],
) -> None:
    kind, client = extreme
    answered = 0
    for path in paths():
        answer = client.get(path)
        where = f"{kind}: GET {path}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500, where
        answered += answer.status_code == 200
        content_type = answer.headers["content-type"]
        if "json" in content_type and content_type != "application/jsonl":
            parse_json(answer.content)
        for line in answer.content.splitlines() if content_type == "application/jsonl" else []:
            parse_json(line)
        if any(name in content_type for name in TEXTS):
            assert NOT_FINITE.search(answer.content) is None, where
    assert answered > 30


def test_an_event_stream_has_only_numbers_that_json_has(
    extreme: tuple[str, httpx.Client],
) -> None:
    _, client = extreme
    with client.stream("GET", "/v1/sweeps/1/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data:")]
    assert lines
    for line in lines:
        parse_json(line.removeprefix("data:"))
