"""``convsweep sweep ...``: preview, start, list, show, watch, and control of sweeps."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.context import JsonOption, SweepArgument, UrlOption, make_client, resolve_sweep
from cli.watching import live_display, print_event, watch_sweep
from convsweep import Sweep
from shared.domain.calibration import BRIDGE_SHARE
from shared.strict_json import StrictJsonError, describe_syntax_error, parse_json

app = typer.Typer(no_args_is_help=True, help="Preview, start, watch and control sweeps.")

Json = dict[str, Any]
PresetOption = Annotated[
    str | None, typer.Option(help="A ready space and protocol: random-cnn-2025 or quick.")
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="JSON with preset, space, protocol, name; - reads stdin."),
]
DatasetOption = Annotated[str | None, typer.Option(help="Overrides the protocol's dataset.")]
TrialsOption = Annotated[int | None, typer.Option(help="Overrides the protocol's trials.")]
SeedOption = Annotated[int | None, typer.Option(help="Overrides the protocol's seed.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Sets a protocol field, e.g. timing=null."),
]


def _sweep_body(
    preset: str | None,
    file: Path | None,
    changes: Json,
    assignments: list[str] | None,
) -> Json:
    body: Json = {}
    if file is not None:
        try:
            body = parse_json(sys.stdin.read() if str(file) == "-" else file.read_text())
        except json.JSONDecodeError as error:
            raise output.fail(f"{file} is not JSON: {describe_syntax_error(error)}") from error
        except (OSError, ValueError) as error:
            raise output.fail(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("protocol") or {}, dict):
        raise output.fail(f"{file}: the sweep and its protocol must be JSON objects")
    if preset is not None:
        body["preset"] = preset
    if not body:
        raise output.fail("Say what to sweep: --preset quick, or --file sweep.json")
    protocol = dict(body.get("protocol") or {})
    protocol |= {name: value for name, value in changes.items() if value is not None}
    for assignment in assignments or []:
        assign_field(protocol, assignment)
    return body | ({"protocol": protocol} if protocol else {})


def assign_field(protocol: Json, assignment: str) -> None:
    """Sets a field that is named by dots (``gates.min_accuracy=0.3``); values are JSON or text."""
    path, equals, text = assignment.partition("=")
    if not equals or not all(path.split(".")):
        raise output.fail(f"--set {assignment}: write FIELD=VALUE, e.g. gates.min_accuracy=0.3")
    try:
        value = parse_json(text)
    except json.JSONDecodeError:
        value = text
    except StrictJsonError as error:
        raise output.fail(f"--set {assignment}: {error}") from error
    *parents, last = path.split(".")
    for name in parents:
        protocol = protocol.setdefault(name, {})
        if not isinstance(protocol, dict):
            raise output.fail(f"--set {assignment}: {name} has no fields of its own")
    protocol[last] = value


@app.command()
def preview(
    preset: PresetOption = None,
    file: FileOption = None,
    dataset: DatasetOption = None,
    trials: TrialsOption = None,
    seed: SeedOption = None,
    assign: SetOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what a sweep would hold; starts nothing."""
    changes = {"dataset": dataset, "trials": trials, "seed": seed}
    body = _sweep_body(preset, file, changes, assign)
    with make_client(url) as client:
        answer = client.preview(body)
    if as_json:
        return output.print_json(answer)
    rows = [("architectures", f"{answer['total']:,}"), ("valid", f"{answer['valid']:,}")]
    rows += [(reason, f"{count:,}") for reason, count in answer["invalid"].items() if count]
    if answer["equivalent"]:
        rows += [("valid, but the same as another", f"{answer['equivalent']:,}")]
    rows += [
        ("groups", f"{answer['groups']:,}"),
        ("PFLOP per trial, if no layer were shared", f"{answer['flops_per_trial'] / 1e15:.3f}"),
    ]
    output.print_table(None, ["", ""], rows)
    return _warn(answer["warnings"])


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        output.note(f"warning: {warning}")


@app.command()
def start(
    preset: PresetOption = None,
    file: FileOption = None,
    dataset: DatasetOption = None,
    trials: TrialsOption = None,
    seed: SeedOption = None,
    assign: SetOption = None,
    name: Annotated[str | None, typer.Option(help="A name to know it by.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: asking again creates nothing twice.")
    ] = None,
    watching: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Starts a sweep over every architecture of a space."""
    changes = {"dataset": dataset, "trials": trials, "seed": seed}
    body = _sweep_body(preset, file, changes, assign)
    if name is not None:
        body["name"] = name
    with make_client(url) as client:
        sweep = client.create_sweep(body, idempotency_key=key)
        if not as_json:
            output.say(f"Sweep {sweep['id']}: {sweep['total']:,} architectures.")
            _warn(sweep["warnings"])
    if watching and not as_json:
        watch(str(sweep["id"]), url)
    elif watching:
        watch_sweep(lambda: make_client(url), sweep["id"], lambda _: None)
        with make_client(url) as client:
            output.print_json(client.get_sweep(sweep["id"]))
    elif as_json:
        output.print_json(sweep)
    else:
        output.say(f"Follow it with: convsweep sweep watch {sweep['id']}")


@app.command("list")
def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lists sweeps, newest first."""
    with make_client(url) as client:
        sweeps = client.list_sweeps(limit)
    if as_json:
        return output.print_json(sweeps)
    if not sweeps:
        output.say("No sweeps yet. Start one: convsweep sweep start --preset quick")
        return None
    output.print_table(
        None,
        ["id", "name", "status", "finished", "of", "completed", "created"],
        [
            (
                s["id"], s["name"], s["status"], f"{s['finished']:,}", f"{s['total']:,}",
                f"{s['counts']['completed']:,}", output.local_time(s["created_at"]),
            )
            for s in sweeps
        ],
    )  # fmt: skip
    return None


def print_sweep(sweep: Sweep, as_json: bool) -> None:
    """Prints a sweep with its jobs by state."""
    if as_json:
        return output.print_json(sweep)
    rows: list[tuple[str, object]] = [("name", sweep["name"]), ("status", sweep["status"])]
    rows += [(status, f"{count:,}") for status, count in sweep["counts"].items() if count]
    rows += [("total", f"{sweep['total']:,}"), ("dataset", sweep["protocol"]["dataset"])]
    rows += [("created", output.local_time(sweep["created_at"]))]
    if sweep["completed_at"] is not None:
        rows += [("completed", output.local_time(sweep["completed_at"]))]
    if sweep["status"] == "running":
        rows.append(("rate", output.rate_text(sweep)))
    rows += [("cannot work", line) for line in output.problem_lines(sweep["problems"])]
    output.print_table(None, [f"sweep {sweep['id']}", ""], rows)
    return None


@app.command()
def show(sweep: SweepArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Shows a sweep: jobs by state, rate, time left."""
    with make_client(url) as client:
        print_sweep(client.get_sweep(resolve_sweep(client, sweep)), as_json)


@app.command()
def watch(sweep: SweepArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Shows progress and new leaders until the sweep ends; Ctrl-C stops watching, not the sweep.

    With --json every event is one line of JSON.
    """
    with make_client(url) as client:
        sweep_id = resolve_sweep(client, sweep)
    if as_json:
        watch_sweep(lambda: make_client(url), sweep_id, print_event)
        return
    with live_display(sweep_id) as show:
        watch_sweep(lambda: make_client(url), sweep_id, show)


def _control(sweep: str, action: str, url: str | None, as_json: bool) -> None:
    with make_client(url) as client:
        print_sweep(client.control_sweep(resolve_sweep(client, sweep), action), as_json)


@app.command()
def pause(sweep: SweepArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Pauses a sweep: running groups finish, and no new ones begin."""
    _control(sweep, "pause", url, as_json)


@app.command()
def resume(sweep: SweepArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Resumes a paused sweep."""
    _control(sweep, "resume", url, as_json)


@app.command()
def cancel(
    sweep: SweepArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancels every unfinished job of a sweep for good; those with results keep them."""
    if not yes:
        typer.confirm(f"Cancel sweep {sweep} for good?", abort=True)
    _control(sweep, "cancel", url, as_json)


@app.command()
def retry(
    sweep: SweepArgument,
    failed: Annotated[  # noqa: ARG001
        bool, typer.Option("--failed", help="Retry failed jobs, the only ones that can be retried.")
    ] = True,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hands failed jobs out again, their attempts counted anew."""
    _control(sweep, "retry", url, as_json)


@app.command()
def extend(
    sweep: SweepArgument,
    trials: Annotated[int, typer.Option(min=1, help="Trials per job, in all.")],
    top: Annotated[
        int | None, typer.Option(min=1, help="Only this number of the most accurate; default: all.")
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measures more trials of all jobs, or only of the leaders; existing trials count."""
    with make_client(url) as client:
        sweep_id = resolve_sweep(client, sweep)
        print_sweep(client.extend_sweep(sweep_id, trials, top), as_json)


@app.command()
def bridge(
    sweep: SweepArgument,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", help="Device model; default: those of all running workers."),
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the networks, chosen at random.")
    ] = BRIDGE_SHARE,
    seed: Annotated[int, typer.Option(min=0, help="Another one chooses other networks.")] = 0,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lets device models time the same random networks, so that they can be compared."""
    with make_client(url) as client:
        sweep_id = resolve_sweep(client, sweep)
        answer = client.build_bridge(sweep_id, device or (), share=share, seed=seed)
    if as_json:
        return output.print_json(answer)
    output.say(
        f"{answer['networks']:,} networks are timed on {' and '.join(answer['devices'])}: "
        f"{answer['wanted']:,} new timings."
    )
    return output.say(f"Then compare the devices: convsweep analyze devices {sweep_id}")


@app.command()
def calibrate(
    sweep: SweepArgument,
    device: Annotated[str, typer.Option("--device", help="Device model.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the halves that fit and check.")] = 0,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Computes the throughput of every timed network on one device model."""
    with make_client(url) as client:
        sweep_id = resolve_sweep(client, sweep)
        answer = client.calibrate(sweep_id, device, seed=seed)
    if as_json:
        return output.print_json(answer)
    output.say(
        f"{answer['measured']:,} networks measured, {answer['predicted']:,} predicted on {device}."
    )
    for source in answer["sources"]:
        if source["problem"] is not None:
            output.note(f"No prediction from {source['source']}: {source['problem']}")
    return output.say(f'Show them with: convsweep top {sweep_id} --device "{answer["scale"]}"')
