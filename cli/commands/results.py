"""``convsweep top|job|export``: reading results."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.context import JsonOption, UrlOption, make_client
from cli.result_options import ResultQuery, reads_results
from convsweep.filters import to_parameters
from convsweep.output_files import open_output
from shared.domain.results.choices import ExportFormat

Json = dict[str, Any]
FIGURES = ("ratio", "parameters", "flops", "accuracy")
EXPORTS = tuple(f".{form}" for form in ExportFormat)


@reads_results
def top(
    query: ResultQuery,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 10,
    sort: Annotated[
        str, typer.Option(help="Columns, comma-separated; a minus sorts in descending order.")
    ] = "-accuracy",
    as_json: JsonOption = False,
) -> None:
    """Shows the best architectures of a sweep."""
    with query.open() as (client, sweep_id):
        board = client.leaderboard(sweep_id, sort=sort, limit=limit, **query.options)
        rows = list(board)
    if as_json:
        return output.print_json(rows)
    if not rows:
        output.say("No architecture with results passes these filters.")
    else:
        output.print_leaderboard(rows)
    return output.print_devices(board)


def job(
    job_id: Annotated[int, typer.Argument(metavar="ID", min=1)],
    weights: Annotated[
        Path | None, typer.Option(help="Write the network's state_dict of --trial to this file.")
    ] = None,
    trial: Annotated[int, typer.Option(min=0, help="Which draw of weights to write.")] = 0,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows one architecture with its trials and attempts, or writes its weights."""
    with make_client(url) as client:
        job = client.get_job(job_id)
    if weights is not None:
        _write_weights(job, trial, weights)
    if as_json:
        return output.print_json(job)
    return _print_job(job)


def _write_weights(job: Json, trial: int, path: Path) -> None:
    command = [sys.executable, "-m", "worker", "weights", "--trial", str(trial)]
    with open_output(path) as file:
        done = subprocess.run(
            command, input=json.dumps(job).encode(), stdout=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise typer.Exit(done.returncode)
        file.write(done.stdout)
    output.note(f"Weights of trial {trial}: {path}")


def _print_job(job: Json) -> None:
    facts = [
        ("sweep", job["sweep_id"]),
        ("status", job["status"]),
        ("reason", job["reason"]),
        ("error", job["error"]),
        (output.LAYERS_TITLE, output.layers(job["layers"])),
        *zip(map(output.heading, FIGURES), output.figures(job, FIGURES), strict=True),
        *((f"images/s on {t['throughput_device']}", output.throughput(t))
          for t in job["throughputs"]),
        ("hash", job["architecture_hash"]),
    ]  # fmt: skip
    output.print_table(
        None, [f"job {job['id']}", ""], [fact for fact in facts if fact[1] is not None]
    )
    if job["trials"]:
        _print_trials(job["trials"])
    if job["attempts"]:
        _print_attempts(job["attempts"])


def _print_trials(trials: list[Json]) -> None:
    output.print_table(
        "\ntrials",
        ["trial", "accuracy %", "train %", "images/s", "± %", "how", "fit s", "device"],
        [
            (
                t["trial"], output.percent(t["accuracy"]), output.percent(t["train_accuracy"]),
                t["throughput"] and round(t["throughput"]),
                output.percent(t["throughput_spread"]), t["throughput_source"],
                f"{t['fit_seconds']:.4f}", t["environment"]["device"],
            )
            for t in trials
        ],
    )  # fmt: skip


def _print_attempts(attempts: list[Json]) -> None:
    output.print_table(
        "\nattempts",
        ["attempt", "outcome", "worker", "began", "seconds", "error"],
        [
            (
                a["attempt"], a["outcome"] or "running", f"{a['hostname']}:{a['pid']}",
                output.local_time(a["started_at"], seconds=True), _seconds(a),
                a["error"],
            )
            for a in attempts
        ],
    )  # fmt: skip


def _seconds(attempt: Json) -> str | None:
    if attempt["ended_at"] is None:
        return None
    begin, end = (dt.datetime.fromisoformat(attempt[key]) for key in ("started_at", "ended_at"))
    return f"{(end - begin).total_seconds():.1f}"


OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]


@reads_results
def export(
    query: ResultQuery,
    file: OutputOption,
    trials: Annotated[bool, typer.Option("--trials", help="A row per trial.")] = False,
) -> None:
    """Writes one row per architecture, or per trial, as .csv, .jsonl or .parquet."""
    output.check_ending(file, EXPORTS)
    rows = "trials" if trials else "architectures"
    params = to_parameters(query.where, {"rows": rows, "fitness_weight": query.fitness_weight})
    with query.open() as (client, sweep_id):
        counted = file.suffix != ".parquet" and not trials and not query.where
        total = client.get_sweep(sweep_id)["total"] if counted else None
        with output.download_progress(total) as on_bytes:
            path = f"/v1/sweeps/{sweep_id}/export{file.suffix}"
            client.download(path, file, params=params, on_bytes=on_bytes)
    output.note(f"Wrote {file}")
