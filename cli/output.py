"""Output in the terminal: tables, formatted numbers and the progress bar of a download."""

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from convsweep import Leaderboard, ProgressEvent, RankedNetwork, Sweep
from convsweep.answers import SweepProblem
from shared.domain.measurements import ThroughputKind
from shared.domain.names import escape_unsafe
from shared.domain.results.columns import COLUMN, IMAGES_PER_S, Column, Kind

Json = dict[str, Any]

LAYERS_TITLE = "kernel / stride / dilation / channels"
LINE_WIDTH = 120  # where there is no terminal to ask
MAX_COLUMN_WIDTH = 40
KEPT_COLUMN_WIDTH = 10  # narrower columns, such as ids and states, are never shortened

console = Console(width=None if sys.stdout.isatty() else LINE_WIDTH)
error_console = Console(stderr=True)


def print_json(value: Any) -> None:
    """Prints a value as JSON, for scripts."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_table(
    title: str | None, headers: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Prints a table; a column shortens long cells, except for the last, which wraps them."""
    table = Table(
        *headers, title=title and plain(title), title_justify="left", header_style="bold", box=None
    )
    cells = [[_cell(value) for value in row] for row in rows]
    for row in cells:
        table.add_row(*row)
    for column, width in zip(table.columns[:-1], _column_widths(headers, cells), strict=False):
        column.no_wrap, column.width = True, width
    table.columns[-1].overflow = "fold"
    console.print(table)


def _column_widths(headers: Sequence[str], cells: Sequence[Sequence[Text]]) -> list[int]:
    """Returns the width of each column; the widest give way until the line fits."""
    columns = zip(*([*map(Text, headers)], *cells), strict=True)
    widths = [max(cell.cell_len for cell in column) for column in columns]
    widths = [min(width, MAX_COLUMN_WIDTH) for width in widths[:-1]] + [
        min(width, KEPT_COLUMN_WIDTH) for width in widths[-1:]
    ]
    room = console.width - 2 * len(widths)  # a blank on either side of a cell
    while sum(widths) > room and max(widths) > KEPT_COLUMN_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return widths


def _cell(value: object) -> Text:
    """Returns what a table shows; names and messages from elsewhere are text, never markup."""
    return value if isinstance(value, Text) else plain("–" if value is None else str(value))


def plain(message: str) -> Text:
    """Returns a message as it is shown: never read as markup, control characters escaped."""
    return Text(escape_unsafe(message))


def say(message: str) -> None:
    """Prints a message on lines of any length; control characters are escaped."""
    console.print(plain(message), soft_wrap=True)


def note(message: str) -> None:
    """Prints a line for people beside what a script may read from standard output."""
    error_console.print(plain(message), soft_wrap=True)


def fail(message: str) -> typer.Exit:
    """Prints an error and returns what to raise for exit status 1."""
    text = Text.assemble(("error:", "bold red"), f" {escape_unsafe(message)}")
    error_console.print(text, soft_wrap=True)
    return typer.Exit(1)


def check_ending(file: Path, endings: Sequence[str]) -> None:
    """Ends the command with an error unless a file's name ends in one of the formats."""
    if file.suffix not in endings:
        raise fail(f"{file}: the ending is the format; use {' or '.join(endings)}")


def percent(fraction: float | None) -> str | None:
    """Returns a fraction as a percentage with two digits."""
    return None if fraction is None else f"{100 * fraction:.2f}"


def duration(seconds: float | None) -> str | None:
    """Returns a time span as people write it."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def local_time(time: str | None, *, seconds: bool = False) -> str | None:
    """Returns a time of the API in this machine's zone, with the name of the zone."""
    if time is None:
        return None
    local = dt.datetime.fromisoformat(time).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S %Z" if seconds else "%Y-%m-%d %H:%M %Z")


def layers(architecture: Sequence[Mapping[str, Any]]) -> str:
    """Returns layers in short: kernel sizes / strides / dilations / channels, first layer first."""
    fields = ("kernel_size", "stride", "dilation", "channels")
    return " / ".join(",".join(str(layer[field]) for layer in architecture) for field in fields)


_SHORT_HEADINGS = {
    "throughput": IMAGES_PER_S, "trials_done": "trials", "flops": "FLOPs per image",
}  # fmt: skip


def heading(name: str) -> str:
    """Returns the heading of a result column in tables."""
    unit = " %" if COLUMN[name].kind is Kind.FRACTION else ""
    return _SHORT_HEADINGS.get(name, f"{name}{unit}")


def figures(row: Mapping[str, Any], names: Iterable[str]) -> list[str | None]:
    """Returns result columns of a network as tables show them."""
    return [None if row[name] is None else _figure(COLUMN[name], row[name]) for name in names]


def throughput(row: Mapping[str, Any]) -> str | None:
    """Returns the throughput of a network; a predicted one with its 90 % interval."""
    shown = figures(row, ["throughput", "throughput_min", "throughput_max"])
    if row["throughput_kind"] == ThroughputKind.PREDICTED:
        return f"≈ {shown[0]} ({shown[1]}–{shown[2]})"
    return shown[0]


def _figure(column: Column, value: float) -> str:
    if column.kind is Kind.FRACTION:
        return f"{column.shown_factor * value:.2f}"
    whole = column.kind is Kind.COUNT or column.unit == IMAGES_PER_S
    return f"{value:,.0f}" if whole else f"{value:.3f}"


def print_leaderboard(rows: Sequence[RankedNetwork], title: str | None = None) -> None:
    """Prints ranked networks; accuracy with half of its 95 % interval over trials, in percent."""
    names = ("fitness", "ratio", "parameters", "trials_done")
    headings = [
        "rank", "job", heading("accuracy"), "± 95 %", heading("throughput"), *map(heading, names),
        LAYERS_TITLE,
    ]  # fmt: skip
    print_table(
        title,
        headings,
        [
            (row["rank"], row["id"], *figures(row, ["accuracy"]), _half(row),
             throughput(row), *figures(row, names), layers(row["layers"]))
            for row in rows
        ],
    )  # fmt: skip


def _half(row: RankedNetwork) -> str | None:
    high, mean = row["accuracy_high"], row["accuracy"]
    return None if high is None or mean is None else percent(high - mean)


def print_devices(board: Leaderboard) -> None:
    """Says whose throughputs were shown if not all networks have one, or others have timed, too."""
    shown, networks = board.throughput_device, sum(board.measured.values())
    if shown is not None and board.min_throughput is not None:
        say(
            f"Networks below {board.min_throughput:,g} images/s on {shown} are left out; "
            "`-w throughput=0..` shows them."
        )
    if shown is None or (len(board.timed) == 1 and board.timed[shown] >= networks):
        return
    others = [f'--device "{name}" ({n:,})' for name, n in board.timed.items() if name != shown]
    say(
        f"Throughputs and fitness on {shown} ({board.timed[shown]:,} of {networks:,} networks)"
        + (f"; for others: {', '.join(others)}." if others else ".")
    )


@contextmanager
def download_progress(rows: int | None) -> Iterator[Callable[[bytes], None]]:
    """Yields a function that advances a progress bar, of ``rows`` lines or of bytes."""
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[megabytes]:,.1f} MB"),
        TimeElapsedColumn(),
    )
    hidden = not error_console.is_terminal  # otherwise it leaves an empty line in logs
    with Progress(*columns, console=error_console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=rows, megabytes=0.0)
        received = 0

        def on_bytes(piece: bytes) -> None:
            nonlocal received
            received += len(piece)
            lines = piece.count(b"\n") if rows else 0
            bar.update(task, advance=lines, megabytes=received / 1e6)

        yield on_bytes


def problem_lines(problems: Sequence[SweepProblem]) -> list[str]:
    """Returns what keeps workers from a sweep, one line for each reason and host."""
    lines = [
        f"{row['hostname']}{', trainings' if row['training_id'] else ''}: {row['problem']}"
        for row in problems
    ]
    return list(dict.fromkeys(lines))


def rate_text(sweep: Sweep | ProgressEvent) -> str:
    """Returns a sweep's rate and time left in words, or what it waits for."""
    facts = sweep if isinstance(sweep, dict) else vars(sweep)
    if facts["status"] != "running":
        return str(facts["status"])
    parts = []
    if facts["jobs_per_s"] is not None:
        low, high = duration(facts["eta_low_s"]), duration(facts["eta_high_s"])
        left = low if low == high else f"{low} to {high}"
        parts += [f"{facts['jobs_per_s']:.1f} jobs/s", f"{left} left"]
    if facts["waiting_for"] is not None:
        parts.append(f"waiting for {facts['waiting_for']}")
    return ", ".join(parts)
