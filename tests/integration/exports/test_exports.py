"""Exports: the same rows in every format, equal to the table, in constant memory."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool
from typer.testing import CliRunner

from cli.main import app
from services.analysis.statistics.intervals import trial_interval
from services.exports.export import CHUNK_BYTES, ROW_GROUP_ROWS, export_rows
from services.leaderboard.filters import parse_filters
from shared.db.session import make_engine, make_session_factory
from shared.domain.results.choices import ExportFormat, ExportRows
from shared.settings import Settings
from tests.conftest import SessionFactory, migrate, serving
from tests.integration.api.test_api import assert_problem
from tests.integration.listings import SPACE, Reference, add_results
from tests.integration.scenario import add_sweep, finish_sweep

TOTAL = len(SPACE)
LARGE = 250_000  # jobs
Row = dict[str, Any]


@pytest.fixture
def api(api_url: str, session: Session) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api_url, timeout=30) as client:
        yield client


def read(api: httpx.Client, sweep_id: int, form: str, **params: Any) -> list[Row]:
    """Returns the rows of an export as Python has them."""
    answer = api.get(f"/v1/sweeps/{sweep_id}/export.{form}", params=params)
    assert answer.status_code == 200, answer.text
    if form == "csv":
        return list(csv.DictReader(io.StringIO(answer.text, newline="")))
    if form == "jsonl":
        return [json.loads(line) for line in answer.text.split("\n")[:-1]]
    rows: list[Row] = pyarrow.parquet.read_table(io.BytesIO(answer.content)).to_pylist()
    return rows


def as_csv(value: Any) -> str:
    """Returns a value as the CSV has it."""
    if value is None:
        return ""
    return ("f", "t")[value] if isinstance(value, bool) else str(value)


def timeless(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "finished_at"}


@pytest.mark.parametrize("rows", list(ExportRows))
@pytest.mark.parametrize(
    "filters", [{}, {"accuracy": "0.2..0.3"}, {"device": "A100"}, {"status": "failed|completed"},
                {"kernel_size[0]": "3", "fitness": "0.2.."}, {"accuracy": "1"}]
)  # fmt: skip
def test_every_format_has_the_same_rows(
    filters: dict[str, str], rows: ExportRows, api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    if rows is ExportRows.TRIALS:
        _add_trials(session)
    lines, objects, columns = (
        read(api, sweep_id, form, rows=rows, **filters) for form in ("csv", "jsonl", "parquet")
    )
    assert [timeless(row) for row in objects] == [timeless(row) for row in columns]
    texts = [{name: as_csv(value) for name, value in row.items()} for row in map(timeless, objects)]
    for line, row in zip(map(timeless, lines), texts, strict=True):
        assert line.keys() == row.keys()
        for name in line:
            if line[name] != row[name]:
                assert math.isclose(float(line[name]), float(row[name]), rel_tol=0)
    expected = filters != {"accuracy": "1"}
    assert bool(lines) == expected


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_texts_in_csv_are_never_formulas(start: str, api: httpx.Client, session: Session) -> None:
    sweep_id = add_results(session)
    error = f"{start}HYPERLINK(1)"
    session.execute(text("UPDATE jobs SET error = :error"), {"error": error})
    session.commit()
    rows = {form: read(api, sweep_id, form) for form in ("csv", "jsonl", "parquet")}
    assert {row["error"] for row in rows["csv"]} == {f"'{error}"}
    assert {row["error"] for form in ("jsonl", "parquet") for row in rows[form]} == {error}


def test_devices_and_versions_in_csv_are_never_formulas(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    _add_trials(session)
    session.execute(text("UPDATE environments SET device = '=1+1', code_version = '@x'"))
    session.commit()
    trials = read(api, sweep_id, "csv", rows="trials")
    assert {(row["device"], row["code_version"]) for row in trials} == {("'=1+1", "'@x")}


def _add_trials(session: Session) -> None:
    session.execute(
        text("INSERT INTO trials (job_id, trial, accuracy, train_accuracy, fit_s, "
             "weights_seed, correct_bits, environment_id, attempt, finished_at) "
             "SELECT j.id, n, j.accuracy, 0.75, 0.01, 9223372036854775807 - j.id, "
             "decode('a0ff', 'hex'), j.environment_id, 1, '2026-11-24T10:00:00.5Z' "
             "FROM jobs j, generate_series(0, j.trials_done - 1) n "
             "WHERE j.environment_id IS NOT NULL")
    )  # fmt: skip
    session.execute(
        text("INSERT INTO timings (job_id, trial, environment_id, images_per_s, source, attempt) "
             "SELECT job_id, 0, environment_id, throughputs.throughput, 'measured', 1 "
             "FROM throughputs JOIN jobs j ON j.id = job_id WHERE trials_done > 0")
    )  # fmt: skip
    session.commit()


def test_an_export_is_the_table(api: httpx.Client, session: Session) -> None:
    sweep_id = add_results(session)
    reference = Reference.of(session, sweep_id)
    rows = read(api, sweep_id, "jsonl")
    assert len(rows) == TOTAL
    for row, job in zip(rows, reference.on_device("H100"), strict=True):
        same = ("status", "reason", "error", "ratio", "parameters", "flops", "trials_done",
                "accuracy", "accuracy_sd", "train_accuracy", "throughput", "throughput_max",
                "throughput_measured", "throughput_device", "fit_seconds", "device")  # fmt: skip
        assert {name: row[name] for name in same} == {name: job[name] for name in same}
        assert row["fitness"] == pytest.approx(job["fitness"])
        assert row["id"] == job["id"]
        assert row["architecture_hash"] == job["architecture_hash"].hex()
        for name in ("channels", "kernel_size", "stride", "dilation", "padding", "activation"):
            assert [row[f"{name}_0"], row[f"{name}_1"]] == job[name]
        interval = trial_interval(job["accuracy"], job["accuracy_sd"], job["trials_done"])
        for name, value in interval._asdict().items():
            field = {"error": "accuracy_se"}.get(name, f"accuracy_{name}")
            assert row[field] == (None if value is None else pytest.approx(value))


def test_trials_are_exported_one_per_row(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session, trials=2)
    finish_sweep(session, sweep_id)
    rows = read(api, sweep_id, "jsonl", rows="trials")
    assert [row["trial"] for row in rows] == [0, 1] * 12
    assert rows[0]["weights_seed"] == 2**63 - 1
    assert rows[0]["correct_bits"] == "a000"
    parquet = read(api, sweep_id, "parquet", rows="trials")
    assert parquet[0]["finished_at"].utcoffset().total_seconds() == 0
    assert len(parquet) == 24


def test_filters_of_an_export_are_those_of_the_leaderboard(
    api: httpx.Client, session: Session
) -> None:
    sweep_id = add_results(session)
    reference = Reference.of(session, sweep_id)
    filters = {"accuracy": "0.2..", "stride[1]": "1", "status": "completed", "device": "A100"}
    board = api.get(f"/v1/sweeps/{sweep_id}/leaderboard", params=filters).json()["rows"]
    rows = read(api, sweep_id, "csv", **filters)
    assert sorted(row["id"] for row in board) == [int(row["id"]) for row in rows]
    assert 0 < len(rows) < len(reference.rows)


def test_exports_name_their_file_and_type(api: httpx.Client, session: Session) -> None:
    sweep_id = add_sweep(session)
    for form, kind in [
        ("csv", "text/csv; charset=utf-8"),
        ("jsonl", "application/jsonl"),
        ("parquet", "application/vnd.apache.parquet"),
    ]:
        answer = api.get(f"/v1/sweeps/{sweep_id}/export.{form}")
        assert answer.headers["content-type"] == kind
        assert f'filename="sweep-{sweep_id}.{form}"' in answer.headers["content-disposition"]
    trials = api.get(f"/v1/sweeps/{sweep_id}/export.csv?rows=trials")
    assert f'filename="sweep-{sweep_id}-trials.csv"' in trials.headers["content-disposition"]


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("accuracy=high", "invalid_filter", "accuracy"),
        ("colour=red", "unknown_filter", "colour"),
        ("device=TPU", "invalid_input", "device"),
        ("rows=layers", "invalid_input", "rows"),
    ],
)
def test_an_export_that_cannot_be_is_refused_before_its_first_byte(
    query: str, code: str, field: str, api: httpx.Client, session: Session
) -> None:
    answer = api.get(f"/v1/sweeps/{add_sweep(session)}/export.csv?{query}")
    body = assert_problem(answer, 422, code)
    assert [error["field"] for error in body["errors"]] == [field]


def add_many(session: Session, rows: int) -> int:
    """Adds a sweep of 12 pending jobs and ``rows`` completed ones."""
    sweep_id = add_sweep(session)
    session.execute(
        text("INSERT INTO jobs (sweep_id, space_index, group_index, architecture_hash, channels, "
             "kernel_size, stride, dilation, padding, activation, ratio, parameters, flops, "
             "status, trials_done, trials_target, accuracy) "
             "SELECT :id, n, 0, sha256(CAST('x' || n AS bytea)), '{8,2}', '{3,5}', '{1,1}', "
             "'{1,1}', '{0,0}', '{relu,relu}', random(), n, n, 'completed', 1, 1, random() "
             "FROM generate_series(1, :rows) n"),
        {"id": sweep_id, "rows": rows},
    )  # fmt: skip
    session.execute(
        text("INSERT INTO throughputs SELECT id, 'H100', sweep_id, 1000 * random() + 1, 1, 1001, "
             "true FROM jobs WHERE sweep_id = :id AND status = 'completed'"), {"id": sweep_id},
    )  # fmt: skip
    session.commit()
    return sweep_id


@pytest.fixture(scope="module")
def large_settings(new_database: Callable[[str], Settings]) -> Settings:
    """Settings of a database that other tests do not empty; see ``large_sweep``."""
    settings = new_database("exports")
    migrate(settings)
    return settings


@pytest.fixture(scope="module")
def large_sessions(large_settings: Settings) -> Iterator[SessionFactory]:
    engine = make_engine(large_settings)
    yield make_session_factory(engine)
    engine.dispose()


@pytest.fixture(scope="module")
def large_sweep(large_sessions: SessionFactory) -> int:
    """A sweep whose export exceeds 40 MiB as text; tests only read it."""
    with large_sessions() as session:
        return add_many(session, LARGE)


@pytest.mark.parametrize("form", list(ExportFormat))
def test_an_export_keeps_to_constant_memory(
    form: ExportFormat, large_sessions: SessionFactory, large_sweep: int
) -> None:
    process, received, pieces = psutil.Process(), 0, 0
    half = parse_filters([("parameters", f"..{2 * ROW_GROUP_ROWS}")])
    in_arrow = [
        pyarrow.total_allocated_bytes()
        for _ in export_rows(large_sessions, large_sweep, half, form=form)
    ]
    before = peak = process.memory_info().rss
    for piece in export_rows(large_sessions, large_sweep, form=form):
        received, pieces = received + len(piece), pieces + 1
        peak = max(peak, process.memory_info().rss)
        assert pyarrow.total_allocated_bytes() <= 1.2 * max(in_arrow) + CHUNK_BYTES
    assert pieces > 2
    assert received > (15 if form is ExportFormat.PARQUET else 40) * 2**20
    limit = (15 if form is ExportFormat.PARQUET else 5) * CHUNK_BYTES  # Arrow keeps what it freed
    assert peak - before < limit, f"{(peak - before) / 2**20:.0f} MiB for {received / 2**20:.0f}"


def test_a_large_parquet_file_has_several_row_groups(
    large_sessions: SessionFactory, large_sweep: int
) -> None:
    rows = 2 * ROW_GROUP_ROWS
    filters = parse_filters([("parameters", f"..{rows}")])
    chunks = export_rows(large_sessions, large_sweep, filters, form=ExportFormat.PARQUET)
    metadata = pyarrow.parquet.read_metadata(io.BytesIO(b"".join(chunks)))
    assert metadata.num_rows == rows + 12
    assert 2 <= metadata.num_row_groups <= 3


def test_an_export_holds_no_connection_while_its_reader_is_slow(
    sessions: SessionFactory, session: Session, database: Engine
) -> None:
    sweep_id = add_many(session, 20_000)
    session.close()
    chunks = export_rows(sessions, sweep_id)
    for _ in range(3):
        next(chunks)
        assert database.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_an_export_whose_client_goes_away_ends(
    large_settings: Settings, large_sessions: SessionFactory, large_sweep: int
) -> None:
    ranges = [0]

    def count(*_: object) -> None:
        ranges[0] += 1

    event.listen(Pool, "checkout", count)  # each range of jobs is read on a connection of its own
    with (
        serving(large_settings) as url,
        httpx.Client(base_url=url, timeout=30) as api,
        large_sessions() as session,
    ):
        try:
            with api.stream("GET", f"/v1/sweeps/{large_sweep}/export.csv") as answer:
                next(answer.iter_raw())
            begun = ranges[0]
            time.sleep(2)
            assert ranges[0] <= begun + 1 < 13, "a whole export reads 13 ranges at least"
        finally:
            event.remove(Pool, "checkout", count)
        busy = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND state <> 'idle' AND pid <> pg_backend_pid() "
                    "AND backend_type = 'client backend'")  # fmt: skip
        assert session.execute(busy).scalar_one() == 0
        assert len(read(api, large_sweep, "csv", status="pending")) == 12


def test_the_command_line_exports_every_format(
    api_url: str, session: Session, tmp_path: Path
) -> None:
    sweep_id = add_results(session)

    def export(*arguments: str) -> None:
        done = CliRunner().invoke(app, ["export", str(sweep_id), *arguments, "--url", api_url])
        assert done.exit_code == 0, done.output

    names = [tmp_path / f"results.{form}" for form in ExportFormat]
    for name in names:
        export("-o", str(name), "--where", "accuracy=0.2..", "--device", "A100")
    csv_file, jsonl_file, parquet_file = names
    count = pyarrow.parquet.read_table(parquet_file).num_rows
    assert 0 < count == len(csv_file.read_text().splitlines()) - 1
    assert count == len(jsonl_file.read_text().splitlines())
    _add_trials(session)
    export("-o", str(csv_file), "--trials")
    assert csv_file.read_text().splitlines()[0].split(",").count("trial") == 1
    wrong = CliRunner().invoke(app, ["export", "1", "-o", "x.xml", "--url", api_url])
    assert wrong.exit_code == 1
