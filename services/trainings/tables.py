"""The experiment's table of trained networks as Markdown and CSV, and code that loads weights."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

from shared.db.queries.trainings.trainings import TrainingRow
from shared.domain.architecture import TORCH_ACTIVATIONS
from shared.domain.results.columns import without_formula


class TableFormat(StrEnum):
    MARKDOWN = "md"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        return "text/markdown" if self is TableFormat.MARKDOWN else "text/csv"


HEADERS = (
    "training", "job", "kernel_size", "stride", "dilation", "channels", "seed", "status",
    "epochs", "best_epoch", "validation_loss", "accuracy_percent", "last_accuracy_percent",
    "probe_accuracy_percent", "parameters", "minutes", "images_per_s", "device",
)  # fmt: skip


def draw_table(trainings: Iterable[TrainingRow], table_format: TableFormat) -> str:
    """Returns a table with one line per training; best epoch's loss and accuracy, in percent."""
    rows = [_cells(training) for training in trainings]
    if table_format is TableFormat.CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADERS)
        writer.writerows([*row[:-1], without_formula(str(row[-1]))] for row in rows)
        return text.getvalue()
    lines = [HEADERS, ["---"] * len(HEADERS), *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(value: object) -> str:
    return str(value).replace("|", "\\|")


def _cells(row: TrainingRow) -> list[object]:
    layers = row.network.layers
    channels = sorted({layer.channels for layer in layers})
    return [
        row.id, row.job_id, _join(row.kernel_size), _join(row.stride), _join(row.dilation),
        _join(channels), row.recipe["seed"], row.status, f"{row.epochs_done}/{row.epochs}",
        _shown(row.best_epoch), _shown(row.best_loss, "{:.5f}"), _percent(row.best_accuracy),
        _percent(row.last_accuracy), _percent(row.probe_accuracy), _shown(row.parameters),
        _shown(row.seconds and row.seconds / 60, "{:.2f}"), _shown(row.images_per_s, "{:.0f}"),
        _shown(row.device),
    ]  # fmt: skip


def _join(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _shown(value: object, how: str = "{}") -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return how.format(value)


def _percent(fraction: float | None) -> str:
    return _shown(None if fraction is None else 100 * fraction, "{:.2f}")


def write_snippet(training: TrainingRow, input_channels: int) -> str | None:
    """Returns Python that loads a training's best weights; None where it has none.

    The code needs only torch and safetensors.
    """
    if training.weights is None or training.parameters is None:
        return None
    network = training.network
    lines = ["import torch", "from safetensors.torch import load_file", ""]
    lines.append("network = torch.nn.Sequential(")
    before = input_channels
    for layer in network.layers:
        lines += [
            f"    torch.nn.Conv2d({before}, {layer.channels}, {layer.kernel_size}, "
            f"stride={layer.stride}, padding={layer.padding}, dilation={layer.dilation}),",
            f"    torch.nn.{TORCH_ACTIVATIONS[layer.activation]}(),",
        ]
        before = layer.channels
    file = f"training-{training.id}.safetensors"
    lines += [
        "    torch.nn.Flatten(),",
        ")",
        f'weights = load_file("{file}")',
        'classes, features = weights[f"{len(network)}.weight"].shape',
        "network.append(torch.nn.Linear(features, classes))",
        "network.load_state_dict(weights)",
        "network.eval()  # takes images (N, C, H, W) in [0, 1]",
    ]
    return "\n".join(lines) + "\n"
