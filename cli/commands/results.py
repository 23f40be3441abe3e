"""``convsweep top|job|export``: reading results."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.context import (
    DeviceOption,
    JsonOption,
    SweepArgument,
    UrlOption,
    WeightOption,
    WhereOption,
    make_client,
    resolve_sweep,
)
from convsweep.filters import parse_assignments
from shared.domain.choices import ExportFormat

Json = dict[str, Any]
EXPORTS = tuple(f".{form}" for form in ExportFormat)


def top(
    sweep: SweepArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 10,
    sort: Annotated[
        str, typer.Option(help="Fields, comma-separated; a minus puts the largest first.")
    ] = "-accuracy",
    where: WhereOption = [],  # noqa: B006
    device: DeviceOption = [],  # noqa: B006
    fitness_weight: WeightOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows the best architectures of a sweep."""
    with make_client(url) as client:
        board = client.leaderboard(
            resolve_sweep(client, sweep),
            where=[*where, *(f"device={name}" for name in device)],
            sort=sort,
            limit=limit,
            fitness_weight=fitness_weight,
        )
        rows = list(board)
    if as_json:
        return output.print_json(rows)
    if not rows:
        output.say("No architecture has completed that passes these filters.")
    else:
        output.print_leaderboard(rows)
    return output.print_devices(board.device, board.devices)


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
        found = client.get_job(job_id)
    if weights is not None:
        _write_weights(found, trial, weights)
    if as_json:
        return output.print_json(found)
    return _print_job(found)


def _write_weights(found: Json, trial: int, path: Path) -> None:
    command = [sys.executable, "-m", "worker", "weights", "--trial", str(trial)]
    done = subprocess.run(
        [*command, "--output", str(path)], input=json.dumps(found).encode(), check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    output.error_console.print(f"Weights of trial {trial}: {path}")


def _print_job(found: Json) -> None:
    facts = [
        ("sweep", found["sweep_id"]),
        ("status", found["status"]),
        ("reason", found["reason"]),
        ("error", found["error"]),
        (output.LAYERS_TITLE, output.layers(found["layers"])),
        ("ratio", found["ratio"]),
        ("parameters", found["parameters"]),
        ("FLOPs per image", found["flops"]),
        ("accuracy %", output.percent(found["accuracy"])),
        ("images/s", found["throughput"] and round(found["throughput"])),
        ("hash", found["architecture_hash"]),
    ]
    output.print_table(
        None, [f"job {found['id']}", ""], [fact for fact in facts if fact[1] is not None]
    )
    if found["trials"]:
        _print_trials(found["trials"])
    if found["attempts"]:
        _print_attempts(found["attempts"])


def _print_trials(trials: list[Json]) -> None:
    output.print_table(
        "\ntrials",
        ["trial", "accuracy %", "train %", "images/s", "± %", "how", "fit s", "device"],
        [
            (
                t["trial"], output.percent(t["accuracy"]), output.percent(t["train_accuracy"]),
                t["images_per_s"] and round(t["images_per_s"]),
                output.percent(t["images_per_s_spread"]), t["throughput_source"],
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
                a["started_at"][:19].replace("T", " "), _seconds(a),
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


def export(
    sweep: SweepArgument,
    file: OutputOption,
    trials: Annotated[bool, typer.Option("--trials", help="A row per trial.")] = False,
    where: WhereOption = [],  # noqa: B006
    device: DeviceOption = [],  # noqa: B006
    fitness_weight: WeightOption = None,
    url: UrlOption = None,
) -> None:
    """Writes one row per architecture, or per trial, as .csv, .jsonl or .parquet."""
    _check_target(file, EXPORTS)
    filters = [*where, *(f"device={name}" for name in device)]
    params = [*parse_assignments(filters), ("rows", "trials" if trials else "architectures")]
    if fitness_weight is not None:
        params.append(("fitness_weight", str(fitness_weight)))
    with make_client(url) as client:
        found = client.get_sweep(resolve_sweep(client, sweep))
        counted = file.suffix != ".parquet" and not trials and not filters
        with output.download_progress(found["total"] if counted else None) as on_bytes:
            path = f"/v1/sweeps/{found['id']}/export{file.suffix}"
            client.download(path, file, params=params, on_bytes=on_bytes)
    output.say(f"Wrote {file}")


def _check_target(file: Path, suffixes: Sequence[str]) -> None:
    if file.suffix not in suffixes:
        raise output.fail(
            f"{file}: the format is told by the name; end it in {' or '.join(suffixes)}"
        )
    if not file.parent.is_dir():
        raise output.fail(f"{file}: the folder {file.parent} does not exist.")
