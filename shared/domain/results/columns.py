"""The registry of result columns: every figure of a network or a trial, described once.

Filters, sorting, points, exports, analyses, the API's schemas, plot labels and the table in
docs/filters.md are made from it. tests/integration/leaderboard/test_columns.py checks that each
column appears wherever its entry says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from shared.domain.architecture import LayerConfig
from shared.domain.measurements import Reason, ThroughputKind, ThroughputSource
from shared.domain.status import JobStatus


class Kind(Enum):
    """The type of a column's values, in the words of error messages."""

    FRACTION = "a fraction from 0 to 1"
    NUMBER = "a number"
    COUNT = "a whole number"
    STATUS = "a status"
    REASON = "a reason"
    SOURCE = "a way to measure"
    ORIGIN = "measured or predicted"
    TEXT = "text"
    HEX = "hexadecimal bytes"
    FLAG = "true or false"
    TIME = "a time in UTC"


CHOICES: Mapping[Kind, type[StrEnum]] = {
    Kind.STATUS: JobStatus,
    Kind.REASON: Reason,
    Kind.SOURCE: ThroughputSource,
    Kind.ORIGIN: ThroughputKind,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of results, under the name that HTTP, files and the command line use.

    Attributes:
        title: what axes of plots call it.
        database: table and column that hold it; None where a query computes it.
        required: whether every row has a value.
        plottable: whether ``/points`` offers it.
        analysable: whether effects and importance can explain it, see ``choices.Target``.
        per_device: whether it depends on the device, so that only those of one model compare.
    """

    name: str
    kind: Kind
    description: str
    title: str | None = None
    unit: str | None = None
    database: str | None = None
    required: bool = False
    filterable: bool = False
    sortable: bool = False
    plottable: bool = False
    exportable: bool = True
    analysable: bool = False
    per_device: bool = False

    @property
    def table(self) -> str | None:
        """The database table that holds the column."""
        return self.database.split(".")[0] if self.database else None

    @property
    def stored_name(self) -> str:
        """The name of the column in its table; its own name where a query computes it."""
        return self.database.split(".")[1] if self.database else self.name

    @property
    def label(self) -> str:
        """Title and unit, as plots show them; fractions are shown in percent."""
        unit = "%" if self.kind is Kind.FRACTION else self.unit
        return f"{self.title or self.name} ({unit})" if unit else self.title or self.name

    @property
    def shown_factor(self) -> float:
        """The factor from a value to the number that people read: percent of a fraction."""
        return 100.0 if self.kind is Kind.FRACTION else 1.0


IMAGES_PER_S = "images/s"
SECONDS = "s"

COLUMNS = (
    Column(
        name="id", kind=Kind.COUNT, database="jobs.id", required=True,
        description="Number of the job.", filterable=True, sortable=True,
    ),
    Column(
        name="sweep_id", kind=Kind.COUNT, database="jobs.sweep_id", required=True,
        description="Number of the sweep.", exportable=False,
    ),
    Column(
        name="architecture_hash", kind=Kind.HEX, database="jobs.architecture_hash", required=True,
        description="SHA-256 of the architecture; the same in every sweep.",
    ),
    Column(
        name="status", kind=Kind.STATUS, database="jobs.status", required=True,
        description="State of the job.", filterable=True,
    ),
    Column(
        name="reason", kind=Kind.REASON, database="jobs.reason",
        description="Why the job did not complete.", filterable=True,
    ),
    Column(
        name="attempt", kind=Kind.COUNT, database="jobs.attempt", required=True,
        description="Number of attempts so far.", exportable=False,
    ),
    Column(
        name="ratio", kind=Kind.NUMBER, database="jobs.ratio",
        title="ratio", unit="output / input elements",
        description="Output elements per input element.",
        filterable=True, sortable=True, plottable=True,
    ),
    Column(
        name="parameters", kind=Kind.COUNT, database="jobs.parameters",
        description="Parameters of the convolutions, without a classifier head.",
        filterable=True, sortable=True, plottable=True,
    ),
    Column(
        name="flops", kind=Kind.COUNT, database="jobs.flops", title="FLOPs", unit="per image",
        description="FLOPs of the convolutions per image; a multiply and an add count as two.",
        filterable=True, sortable=True, plottable=True,
    ),
    Column(
        name="trials_done", kind=Kind.COUNT, database="jobs.trials_done", required=True,
        title="trials", description="Number of trials measured.",
        filterable=True, sortable=True, plottable=True,
    ),
    Column(
        name="trials_target", kind=Kind.COUNT, database="jobs.trials_target", required=True,
        description="Number of trials to measure.", exportable=False,
    ),
    Column(
        name="accuracy", kind=Kind.FRACTION, database="jobs.accuracy",
        title="validation accuracy", description="Validation accuracy, mean over the trials.",
        filterable=True, sortable=True, plottable=True, analysable=True,
    ),
    Column(
        name="accuracy_sd", kind=Kind.FRACTION, database="jobs.accuracy_sd",
        title="standard deviation of the accuracy",
        description="Standard deviation of the accuracy over the trials; empty for one trial.",
        plottable=True,
    ),
    Column(
        name="accuracy_se", kind=Kind.FRACTION,
        description="Standard error of the accuracy; empty for one trial.",
    ),
    Column(
        name="accuracy_low", kind=Kind.FRACTION,
        description="Lower end of the 95 % interval of the accuracy.",
    ),
    Column(
        name="accuracy_high", kind=Kind.FRACTION,
        description="Upper end of the 95 % interval of the accuracy.",
    ),
    Column(
        name="accuracy_min", kind=Kind.FRACTION, database="jobs.accuracy_min",
        description="Accuracy of the least accurate trial.",
    ),
    Column(
        name="accuracy_max", kind=Kind.FRACTION, database="jobs.accuracy_max",
        description="Accuracy of the most accurate trial.",
    ),
    Column(
        name="train_accuracy", kind=Kind.FRACTION, database="jobs.train_accuracy",
        title="training accuracy", description="Training accuracy, mean over the trials.",
        filterable=True, sortable=True, plottable=True, analysable=True,
    ),
    Column(
        name="throughput", kind=Kind.NUMBER, unit=IMAGES_PER_S, database="throughputs.throughput",
        title="throughput", description="Throughput on one device model, median of its timings.",
        filterable=True, sortable=True, plottable=True, analysable=True, per_device=True,
    ),
    Column(
        name="throughput_min", kind=Kind.NUMBER, unit=IMAGES_PER_S,
        database="throughputs.throughput_min",
        description="Throughput of the slowest timing; of a predicted one the low end of its "
        "90 % interval.", per_device=True,
    ),
    Column(
        name="throughput_max", kind=Kind.NUMBER, unit=IMAGES_PER_S,
        database="throughputs.throughput_max",
        description="Throughput of the fastest timing; of a predicted one the high end of its "
        "90 % interval.", per_device=True,
    ),
    Column(
        name="throughput_kind", kind=Kind.ORIGIN, database="throughputs.kind",
        description="Whether the device model timed the network, or calibration predicted it from "
        "another model.", filterable=True, per_device=True,
    ),
    Column(
        name="throughput_measured", kind=Kind.FLAG, database="throughputs.throughput_measured",
        description="Whether the whole network was timed each time; false if one was screened.",
        per_device=True,
    ),
    Column(
        name="throughput_device", kind=Kind.TEXT, database="throughputs.device", per_device=True,
        description="Device model of the throughput; empty without one.",
    ),
    Column(
        name="fit_seconds", kind=Kind.NUMBER, unit=SECONDS, database="jobs.fit_s",
        title="time of the fit", description="Time of the probe's fit, mean over the trials.",
        filterable=True, sortable=True, plottable=True, analysable=True,
    ),
    Column(
        name="fitness", kind=Kind.NUMBER, title="fitness",
        description="Weighted sum of normalized accuracy and throughput, see docs/protocol.md; "
        "empty without a throughput.",
        filterable=True, sortable=True, plottable=True, analysable=True, per_device=True,
    ),
    Column(
        name="device", kind=Kind.TEXT, database="environments.device",
        description="Device model that measured the network's last trials.",
    ),
    Column(
        name="finished_at", kind=Kind.TIME, database="jobs.finished_at",
        description="Time at which the job ended.",
    ),
    Column(
        name="error", kind=Kind.TEXT, database="jobs.error",
        description="Message of the last error.",
    ),
)  # fmt: skip

TRIAL_COLUMNS = (
    Column(
        name="trial", kind=Kind.COUNT, database="trials.trial", required=True,
        description="Number of the trial, from 0.",
    ),
    Column(
        name="accuracy", kind=Kind.FRACTION, database="trials.accuracy", required=True,
        description="Validation accuracy.",
    ),
    Column(
        name="train_accuracy", kind=Kind.FRACTION, database="trials.train_accuracy", required=True,
        description="Training accuracy.",
    ),
    Column(
        name="throughput", kind=Kind.NUMBER, unit=IMAGES_PER_S, database="timings.images_per_s",
        description="Throughput, median of the timing's runs.",
    ),
    Column(
        name="throughput_spread", kind=Kind.NUMBER, database="timings.spread",
        description="Half-width of the middle half of the timing's runs, relative to the median.",
    ),
    Column(
        name="timing_runs", kind=Kind.COUNT, database="timings.runs",
        description="Number of the timing's runs; 0 for a screened throughput.",
    ),
    Column(
        name="throughput_source", kind=Kind.SOURCE, database="timings.source",
        description="Whether the whole network was timed or layer times were added up.",
    ),
    Column(
        name="fit_seconds", kind=Kind.NUMBER, unit=SECONDS, database="trials.fit_s", required=True,
        description="Time of the probe's fit.",
    ),
    Column(
        name="weights_seed", kind=Kind.COUNT, database="trials.weights_seed", required=True,
        description="Seed of the last layer's random weights.",
    ),
    Column(
        name="correct_bits", kind=Kind.HEX, database="trials.correct_bits", required=True,
        description="One bit per validation image, in order; 1 for a correct prediction.",
    ),
    Column(
        name="attempt", kind=Kind.COUNT, database="trials.attempt", required=True,
        description="Attempt that measured the trial.",
    ),
    Column(
        name="device", kind=Kind.TEXT, database="environments.device", required=True,
        description="Device model that measured the trial.",
    ),
    Column(
        name="code_version", kind=Kind.TEXT, database="environments.code_version", required=True,
        description="Version of convsweep that measured the trial.",
    ),
    Column(
        name="finished_at", kind=Kind.TIME, database="trials.finished_at", required=True,
        description="Time at which the trial was written.",
    ),
)  # fmt: skip

LAYER_COLUMNS: Mapping[str, Kind] = {
    name: Kind.TEXT if name == "activation" else Kind.COUNT for name in LayerConfig._fields
}


def by_name(columns: Iterable[Column]) -> dict[str, Column]:
    """Returns columns by their names, in order."""
    return {column.name: column for column in columns}


COLUMN = by_name(COLUMNS)
FILTERABLE = by_name(column for column in COLUMNS if column.filterable)
SORTABLE = by_name(column for column in COLUMNS if column.sortable)
PLOTTABLE = by_name(column for column in COLUMNS if column.plottable)
EXPORTABLE = by_name(column for column in COLUMNS if column.exportable)
TEXT_COLUMNS = frozenset(
    column.name for column in (*COLUMNS, *TRIAL_COLUMNS) if column.kind is Kind.TEXT
)
FORMULA_STARTS = "-=+@\t\r"  # the minus first: between others it would be a range of a pattern


def without_formula(text: str) -> str:
    """Returns a text for a CSV file, with a ``'`` before it if a spreadsheet would run it.

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if text.startswith(tuple(FORMULA_STARTS)) else text
