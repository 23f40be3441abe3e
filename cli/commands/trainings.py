"""``convsweep train`` and ``convsweep training``: training networks, and what came of it."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.commands.sweeps import assign_field
from cli.context import (
    JsonOption,
    SweepArgument,
    UrlOption,
    WhereOption,
    make_client,
    resolve_sweep,
)
from convsweep import Client
from convsweep.filters import parse_assignments

app = typer.Typer(no_args_is_help=True, help="List, control and compare trainings of a sweep.")

Json = dict[str, Any]
POLL_S = 1.0
UNFINISHED = ("pending", "running")
TABLES = (".md", ".csv")
TrainingArgument = Annotated[int, typer.Argument(metavar="TRAINING", min=1)]


JobsOption = Annotated[
    list[int] | None, typer.Option("--job", "-j", min=1, help="Train this job; repeatable.")
]
TopOption = Annotated[int | None, typer.Option(min=1, help="Train the first of the ranking.")]
ParetoOption = Annotated[bool, typer.Option("--pareto", help="Train the Pareto front.")]
SampleOption = Annotated[
    int | None, typer.Option(min=1, help="Train a sample over the range of accuracies.")
]
SortOption = Annotated[str, typer.Option(help="The ranking of --top.")]
ChannelsOption = Annotated[
    list[int] | None, typer.Option(min=1, help="Train at this width; repeatable.")
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Default 100.")]
RepeatsOption = Annotated[int, typer.Option(min=1, help="Number of seeds per network.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Sets a recipe field: augment=none."),
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Show progress until all end.")]


def train(
    sweep: SweepArgument,
    job: JobsOption = None,
    top: TopOption = None,
    pareto: ParetoOption = False,
    sample: SampleOption = None,
    where: WhereOption = [],  # noqa: B006
    sort: SortOption = "-accuracy",
    channels: ChannelsOption = None,
    epochs: EpochsOption = None,
    repeats: RepeatsOption = 1,
    assign: SetOption = None,
    watching: WatchOption = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trains networks of a sweep by gradient descent, as many as are chosen."""
    recipe: Json = {} if epochs is None else {"epochs": epochs}
    for assignment in assign or []:
        assign_field(recipe, assignment)
    select = _selection(job, top, pareto, sample, dict(parse_assignments(where)), sort)
    body = {"select": select, "recipe": recipe, "repeats": repeats, "channels": channels or None}
    with make_client(url) as client:
        sweep_id = resolve_sweep(client, sweep)
        asked = client.create_trainings(sweep_id, body)
        ids = [row["id"] for row in asked["trainings"]]
        if not as_json:
            output.say(f"{len(ids):,} trainings, {asked['created']:,} of them new.")
        if watching:
            _watch(client, sweep_id, set(ids), quiet=as_json)
        rows = [row for row in client.list_trainings(sweep_id) if row["id"] in set(ids)]
    if as_json:
        output.print_json(rows)
    elif watching:
        _print(rows)
    else:
        output.say(f"Follow them with: convsweep training list {sweep_id}")


def _selection(
    job: list[int] | None,
    top: int | None,
    pareto: bool,
    sample: int | None,
    where: dict[str, str],
    sort: str,
) -> Json:
    ways: list[Json] = []
    if job:
        ways.append({"by": "ids", "job_ids": job})
    if top:
        ways.append({"by": "rank", "count": top, "where": where, "sort": sort})
    if pareto:
        ways.append({"by": "pareto", "where": where})
    if sample:
        ways.append({"by": "sample", "count": sample, "where": where})
    if len(ways) != 1:
        raise output.fail("Choose networks in one way: --job, --top, --pareto or --sample.")
    return ways[0]


def _watch(client: Client, sweep_id: int, ids: set[int], *, quiet: bool) -> None:
    """Returns when all these trainings have ended; until then says how far they are."""
    said = ""
    while True:
        rows = [row for row in client.list_trainings(sweep_id) if row["id"] in ids]
        done, epochs = (sum(row[name] for row in rows) for name in ("epochs_done", "epochs"))
        ended = sum(row["status"] not in UNFINISHED for row in rows)
        line = f"{ended:,} of {len(rows):,} trainings ended, {done:,} of {epochs:,} epochs"
        if line != said and not quiet:
            output.note(line)
            said = line
        if ended == len(rows):
            return
        time.sleep(POLL_S)


@app.command("list")
def list_trainings(
    sweep: SweepArgument,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write FILE.md or FILE.csv.")
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows the table of trained networks, or writes it as Markdown or CSV."""
    if file is not None:
        output.check_ending(file, TABLES)
    with make_client(url) as client:
        sweep_id = resolve_sweep(client, sweep)
        if file is not None:
            client.training_table(sweep_id, file)
            return output.note(f"Wrote {file}")
        rows = client.list_trainings(sweep_id)
    if as_json:
        return output.print_json(rows)
    if not rows:
        return output.say(f"No trainings yet. Start some: convsweep train {sweep} --top 10")
    return _print(rows)


def _print(rows: list[Json]) -> None:
    output.print_table(
        None,
        [
            "id", "job", "status", "epochs", "loss", "best %", "last %", "probe %", "parameters",
            "minutes", "images/s", output.LAYERS_TITLE,
        ],
        [
            (
                row["id"], row["job_id"], row["status"], f"{row['epochs_done']}/{row['epochs']}",
                None if row["best_loss"] is None else f"{row['best_loss']:.4f}",
                output.percent(row["best_accuracy"]), output.percent(row["last_accuracy"]),
                output.percent(row["probe_accuracy"]),
                None if row["parameters"] is None else f"{row['parameters']:,}",
                None if row["minutes"] is None else f"{row['minutes']:.2f}",
                None if row["images_per_s"] is None else f"{row['images_per_s']:,.0f}",
                output.layers(row["layers"]),
            )
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        for text in (row["error"], row["note"]):
            if text:
                output.say(f"training {row['id']}: {text}")


@app.command()
def show(training_id: TrainingArgument, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Shows one training with its curve, and code that loads its weights."""
    with make_client(url) as client:
        training = client.get_training(training_id)
    if as_json:
        return output.print_json(training)
    _print([training])
    output.print_table(
        "\ncurve",
        ["epoch", "train loss", "train %", "validation loss", "validation %", "images/s", "device"],
        [
            (
                epoch["epoch"],
                f"{epoch['train_loss']:.4f}", output.percent(epoch["train_accuracy"]),
                f"{epoch['validation_loss']:.4f}", output.percent(epoch["validation_accuracy"]),
                epoch["images_per_s"] and f"{epoch['images_per_s']:,.0f}", epoch["device"],
            )
            for epoch in training["curve"]
        ],
    )  # fmt: skip
    if training["snippet"]:
        output.say("\n" + training["snippet"])
    return None


@app.command()
def weights(
    training_id: TrainingArgument,
    file: Annotated[Path, typer.Option("--output", "-o", help="FILE.safetensors")],
    url: UrlOption = None,
) -> None:
    """Writes a training's best weights as safetensors."""
    with make_client(url) as client:
        client.training_weights(training_id, file)
    output.note(f"Wrote {file}")


def _control(action: str, sweep: str, training: int | None, url: str | None) -> None:
    with make_client(url) as client:
        if training is None:
            changed = client.control_trainings(resolve_sweep(client, sweep), action)
            return output.say(f"{changed:,} trainings changed.")
        return _print([client.control_training(training, action)])


OneOption = Annotated[
    int | None, typer.Option("--training", min=1, help="Only this training; default: all.")
]


@app.command()
def pause(sweep: SweepArgument, training: OneOption = None, url: UrlOption = None) -> None:
    """Pauses trainings; those that run stop after their epoch."""
    _control("pause", sweep, training, url)


@app.command()
def resume(sweep: SweepArgument, training: OneOption = None, url: UrlOption = None) -> None:
    """Resumes paused trainings from their last checkpoints."""
    _control("resume", sweep, training, url)


@app.command()
def cancel(sweep: SweepArgument, training: OneOption = None, url: UrlOption = None) -> None:
    """Cancels unfinished trainings; this cannot be undone."""
    _control("cancel", sweep, training, url)


@app.command()
def retry(sweep: SweepArgument, training: OneOption = None, url: UrlOption = None) -> None:
    """Makes failed trainings pending again; they continue from their last checkpoints."""
    _control("retry", sweep, training, url)


@app.command()
def compare(
    sweep: SweepArgument,
    k: Annotated[int | None, typer.Option("-k", min=1, help="The k of precision at k.")] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Says how well the probe predicts training, beside parameters, FLOPs and ratio."""
    with make_client(url) as client:
        comparison = client.probe_vs_trained(resolve_sweep(client, sweep), k)
    if as_json:
        return output.print_json(comparison)
    for result in comparison:
        recipe = result["recipe"]
        channels = recipe["channels"] or "as searched"
        output.print_table(
            f"{result['networks']:,} networks, channels {channels}, {recipe['epochs']} epochs",
            ["predictor", "Spearman", "Kendall", f"precision at {result['k']}"],
            [
                (name, *(_interval(figures[figure]) for figure in _FIGURES))
                for name, figures in result["predictions"].items()
            ],
        )
    return None


_FIGURES = ("spearman", "kendall", "precision_at_k")


def _interval(figure: Json) -> str | None:
    if figure["value"] is None:
        return None
    return f"{figure['value']:+.3f} [{figure['low']:+.3f}, {figure['high']:+.3f}]"
