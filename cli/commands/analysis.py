"""``convsweep analyze ...`` and ``convsweep plot``: statistics and plots of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli import output
from cli.context import JsonOption, SweepArgument, UrlOption, make_client, resolve_sweep
from cli.result_options import ResultQuery, reads_results
from convsweep import Client
from shared.domain.results.choices import CorrelationMethod, PlotFormat, PlotKind, Target
from shared.domain.results.columns import COLUMN, Kind

Json = dict[str, Any]
MAX_ROWS = 20  # of a table of pairs
app = typer.Typer(no_args_is_help=True, help="Statistics of a sweep's results.")


TargetOption = Annotated[Target, typer.Option(help="The result to explain.")]
MethodOption = Annotated[CorrelationMethod, typer.Option(help="How to correlate.")]


@app.command()
@reads_results
def correlations(
    query: ResultQuery,
    method: MethodOption = CorrelationMethod.PEARSON,
    as_json: JsonOption = False,
) -> None:
    """Correlates parameters, ratio, accuracies, throughput, times and fitness."""
    answer = query.fetch(Client.correlations, method=method.value)
    if as_json:
        return output.print_json(answer)
    _print_coverage(answer["coverage"], throughput=True)
    return _print_matrix(answer["names"], answer["coefficients"])


def _print_matrix(names: Sequence[str], coefficients: Sequence[Sequence[float | None]]) -> None:
    """Prints the lower half of a symmetric matrix; columns are named by the numbers of rows."""
    last = len(names) - 1
    rows = [
        [f"{place + 1} {names[place]}", *map(_coefficient, coefficients[place][:place])]
        for place in range(1, len(names))
    ]
    output.print_table(
        f"1 {names[0]}",
        ["", *(str(number) for number in range(1, last + 1))],
        [row + [""] * (last + 1 - len(row)) for row in rows],
    )


def _coefficient(value: float | None) -> Text | None:
    if value is None:
        return None
    style = "bold" if abs(value) >= 0.5 else "dim" if abs(value) < 0.1 else ""
    return Text(f"{value:+.2f}".replace("0.", "."), style=style)


@app.command()
@reads_results
def pareto(
    query: ResultQuery,
    as_json: JsonOption = False,
) -> None:
    """Lists the networks that no other network beats in both accuracy and throughput."""
    answer = query.fetch(Client.pareto)
    if as_json:
        return output.print_json(answer)
    _print_coverage(answer["coverage"])
    names = ("accuracy", "throughput", "ratio", "parameters", "trials_done")
    return output.print_table(
        None,
        ["job", *map(output.heading, names), output.LAYERS_TITLE],
        [
            (job["id"], *output.figures(job, names), output.layers(job["layers"]))
            for job in answer["front"]
        ],
    )


@app.command()
@reads_results
def effects(
    query: ResultQuery,
    target: TargetOption = Target.ACCURACY,
    as_json: JsonOption = False,
) -> None:
    """Shows the mean of a result at every level of every parameter."""
    answer = query.fetch(Client.effects, target=target.value)
    if as_json:
        return output.print_json(answer)
    _print_coverage(answer["coverage"])
    output.say(f"Mean of all: {_value(answer['mean'], target)}")
    rows = [
        (entry["parameter"], "none" if level["level"] is None else level["level"],
         *_effect_cells(level, target))
        for entry in answer["parameters"] for level in entry["levels"]
    ]  # fmt: skip
    return output.print_table(None, ["parameter", "level", *_effect_headers(target)], rows)


def _effect_headers(target: Target) -> list[str]:
    unit = f"{target} %" if COLUMN[target].kind is Kind.FRACTION else target.value
    return ["networks", f"mean {unit}", "95 % interval", "effect"]


def _effect_cells(effect: Json, target: Target) -> list[object]:
    low, high = (_value(effect[end], target) for end in ("low", "high"))
    return [
        effect["n"], _value(effect["mean"], target),
        None if low is None else f"{low} to {high}", _value(effect["effect"], target, sign="+"),
    ]  # fmt: skip


def _value(value: float | None, target: Target, sign: str = "") -> str | None:
    if value is None:
        return None
    if COLUMN[target].kind is Kind.FRACTION:
        return f"{100 * value:{sign}.2f}"
    return f"{value:{sign},.0f}" if target is Target.THROUGHPUT else f"{value:{sign}.4g}"


@app.command()
@reads_results
def interactions(
    query: ResultQuery,
    target: TargetOption = Target.ACCURACY,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", help="A parameter to pair, e.g. 'stride[0]'; default: all."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Shows the pairs of levels with the largest interactions."""
    answer = query.fetch(Client.interactions, target=target.value, parameter=parameter)
    if as_json:
        return output.print_json(answer)
    _print_coverage(answer["coverage"])
    cells = [
        (pair["parameters"], cell)
        for pair in answer["pairs"]
        for cell in pair["cells"]
        if cell["effect"] is not None
    ]
    cells.sort(key=lambda cell: -abs(cell[1]["effect"]))
    rows = [
        (*(f"{name}={level}" for name, level in zip(names, cell["levels"], strict=True)),
         *_effect_cells(cell, target))
        for names, cell in cells[:MAX_ROWS]
    ]  # fmt: skip
    output.print_table(None, ["level", "other level", *_effect_headers(target)], rows)
    return _say_rest(len(cells))


@app.command()
@reads_results
def importance(
    query: ResultQuery,
    target: TargetOption = Target.ACCURACY,
    as_json: JsonOption = False,
) -> None:
    """Shows the share of a result's variance that parameters and pairs of them explain."""
    answer = query.fetch(Client.importance, target=target.value)
    if as_json:
        return output.print_json(answer)
    _print_coverage(answer["coverage"])
    output.say(
        f"Shares of the variance of {target} in percent, {answer['estimator']}; all together "
        f"explain {output.percent(answer['explained'])}."
    )
    rows = [
        (share["parameter"], output.percent(share["main"]), output.percent(share["total"]))
        for share in answer["parameters"]
    ]
    output.print_table(None, ["parameter", "main %", "total %"], rows)
    pairs = [
        (" × ".join(pair["parameters"]), output.percent(pair["share"])) for pair in answer["pairs"]
    ]
    output.print_table("\npairs", ["pair", "interaction %"], pairs[:MAX_ROWS])
    return _say_rest(len(pairs))


def _say_rest(rows: int) -> None:
    if rows > MAX_ROWS:
        output.say(f"{rows - MAX_ROWS:,} more with --json")


@app.command()
def devices(
    sweep: SweepArgument,
    version: Annotated[
        int | None, typer.Option(min=1, help="Version of the reference networks; default: newest.")
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compares the devices of a sweep: references, drift, units, and what models say of others."""
    with make_client(url) as client:
        answer = client.devices(resolve_sweep(client, sweep), reference_version=version)
    if as_json:
        return output.print_json(answer)
    if not answer["models"]:
        return output.say("No network of this sweep was timed yet.")
    units = [(model, unit) for model in answer["models"] for unit in model["units"]]
    output.print_table(
        f"References, version {answer['reference_version']}; a change of more than "
        f"{100 * answer['max_drift']:g} % is drift",
        ["device", "networks", "unit", "factor", "runs", "last change", "drifts", "discarded"],
        [
            (model["device"], f"{model['timed']:,}", unit["unit"], f"{unit['factor']:.3f}",
             unit["runs"], _change(unit["history"][-1]["speed_change"]), unit["drifts"],
             f"{unit['invalidated']:,}")
            for model, unit in units
        ],
    )  # fmt: skip
    _say_without_references(answer["models"])
    return _print_fits(answer["models"])


def _change(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:+.1f} %"


def _say_without_references(models: Sequence[Json]) -> None:
    for model in models:
        if not model["units"]:
            output.say(f"{model['device']} has not timed the references yet.")


def _print_fits(models: Sequence[Json]) -> None:
    fits = [(model["device"], fit) for model in models for fit in model["fits"]]
    if fits:
        output.print_table(
            "\nthroughputs of one model predicted from another",
            ["of", "from", "networks on both", "rank correlation", "90 % interval", "lacks"],
            [
                (device, fit["source"], f"{fit['rows']:,}",
                 _coefficient(fit["rank_correlation"]), _interval(fit["interval_factor"]),
                 fit["problem"])
                for device, fit in fits
            ],
        )  # fmt: skip
    for model in models:
        if kept := model["calibration"]:
            output.say(
                f'\n"{kept["scale"]}": {kept["measured"]:,} networks measured, '
                f"{kept['predicted']:,} predicted, {output.local_time(kept['calibrated_at'])}; "
                f"{kept['timed_since']:,} timed since."
            )


def _interval(factor: float | None) -> str | None:
    return None if factor is None else f"÷ or × {factor:.3f}"


JobArgument = Annotated[int, typer.Argument(metavar="JOB", min=1)]


@app.command("compare-jobs")
def compare_jobs(
    first: JobArgument, second: JobArgument, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Compares two networks image by image: McNemar's test and a bootstrap interval."""
    with make_client(url) as client:
        answer = client.compare_jobs(first, second)
    if as_json:
        return output.print_json(answer)
    answers, test = answer["answers"], answer["mcnemar"]
    jobs = [(str(first), answer["first"]), (str(second), answer["second"])]
    output.print_table(
        None,
        ["job", "accuracy %", "only it right", output.LAYERS_TITLE],
        [
            (name, output.percent(accuracy), only, output.layers(job["layers"]))
            for (name, job), accuracy, only in zip(
                jobs, answer["accuracies"], (answers["only_first"], answers["only_second"]),
                strict=True,
            )
        ],
    )  # fmt: skip
    trials = len(answer["trials"])
    output.say(
        f"\n{answer['images']:,} images in {trials} common trial{'s' * (trials > 1)}. "
        f"Both right {answers['both']:,} times, neither {answers['neither']:,} times.\n"
        f"Difference {_points(answer['difference'])} "
        f"({answer['resamples']:,} bootstrap resamples of images).\n"
        f"McNemar's test ({test['test'].replace('_', ' ')}): p = {test['p_value']:.4g}; "
        f"{test['images_for_first']:,} images speak for {first}, "
        f"{test['images_for_second']:,} for {second}."
    )
    return None


def _points(interval: Json) -> str:
    mean = f"{100 * interval['mean']:+.2f} points"
    if interval["low"] is None:
        return mean
    return f"{mean}, 95 % interval {100 * interval['low']:+.2f} to {100 * interval['high']:+.2f}"


@app.command("compare-sweeps")
def compare_sweeps(
    first: SweepArgument, second: SweepArgument, url: UrlOption = None, as_json: JsonOption = False
) -> None:
    """Compares two sweeps by the architectures with results in both."""
    with make_client(url) as client:
        answer = client.compare_sweeps(resolve_sweep(client, first), resolve_sweep(client, second))
    if as_json:
        return output.print_json(answer)
    output.print_table(
        None,
        ["sweep", "name", "in both", "only in this one"],
        [
            (sweep["id"], sweep["name"], answer["shared"], only)
            for sweep, only in (
                (answer["first"], answer["only_first"]), (answer["second"], answer["only_second"]),
            )
        ],
    )  # fmt: skip
    difference = answer["difference"]
    ranks = [(name, answer[name.lower()]) for name in ("Spearman", "Kendall")]
    output.say(
        "\nAccuracies of the shared ones: "
        + ", ".join(f"{name} {value:+.3f}" for name, value in ranks if value is not None)
        + (f"; first less second {_points(difference)}" if difference else "nothing to compare")
    )
    return None


def _print_coverage(coverage: Json, *, throughput: bool = False) -> None:
    """Says which networks an answer uses; with ``throughput`` also whose throughputs."""
    devices = coverage["device"]
    one = throughput and len(devices) > 1
    missing = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in coverage["missing"].items()
    )
    output.say(
        f"{coverage['used']:,} of {coverage['total']:,} networks"
        + (f" ({missing})" if missing else "")
        + f", measured on {', '.join(devices)}"
        + (f"; throughputs of {coverage['throughput_device']}" if one else "")
    )


@reads_results
def plot(
    query: ResultQuery,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=" | ".join(PlotKind))],
    file: Annotated[Path, typer.Option("--output", "-o", help="FILE.png or FILE.svg.")],
    target: TargetOption = Target.ACCURACY,
    method: MethodOption = CorrelationMethod.PEARSON,
) -> None:
    """Plots the results of a sweep as PNG or SVG."""
    if kind not in list(PlotKind):
        raise output.fail(f"There is no plot {kind!r}; known are: {', '.join(PlotKind)}.")
    output.check_ending(file, [f".{form}" for form in PlotFormat])
    query.fetch(Client.plot, kind, file, target=target.value, method=method.value)
    output.note(f"Wrote {file}")
