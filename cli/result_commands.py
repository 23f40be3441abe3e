"""``convsweep top|job|export``: reading results."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.context import JsonOption, SweepArgument, UrlOption, make_client, resolve_sweep

Json = dict[str, Any]


def top(
    sweep: SweepArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 10,
    sort: Annotated[
        str, typer.Option(help="A field; a minus puts the largest first.")
    ] = "-accuracy",
    min_accuracy: Annotated[float | None, typer.Option(help="Fraction, 0 to 1.")] = None,
    min_throughput: Annotated[float | None, typer.Option(help="Images per second.")] = None,
    max_ratio: Annotated[float | None, typer.Option(help="Output / input elements.")] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows the best architectures of a sweep."""
    with make_client(url) as client:
        rows = client.leaderboard(
            resolve_sweep(client, sweep),
            limit=limit,
            sort=sort,
            min_accuracy=min_accuracy,
            min_throughput=min_throughput,
            max_ratio=max_ratio,
        )
    if as_json:
        return output.print_json(rows)
    if not rows:
        output.say("No architecture has completed that passes these filters.")
        return None
    return output.print_leaderboard(rows)


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
                f"{t['fit_s']:.4f}", t["environment"]["device"],
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


def export(sweep: SweepArgument, file: OutputOption, url: UrlOption = None) -> None:
    """Writes one CSV row per architecture."""
    _check_target(file, ".csv")
    with make_client(url) as client:
        client.download(f"/v1/sweeps/{resolve_sweep(client, sweep)}/export.csv", file)
    output.say(f"Wrote {file}")


def _check_target(file: Path, suffix: str) -> None:
    if file.suffix != suffix:
        raise output.fail(f"{file}: the format is {suffix.lstrip('.').upper()}; end it in {suffix}")
    if not file.parent.is_dir():
        raise output.fail(f"{file}: the folder {file.parent} does not exist.")
