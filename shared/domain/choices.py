"""What may be asked for: one list for services, API and command line."""

from enum import StrEnum


class Target(StrEnum):
    """A measured result that analyses explain."""

    ACCURACY = "accuracy"
    TRAIN_ACCURACY = "train_accuracy"
    THROUGHPUT = "throughput"
    FIT_SECONDS = "fit_seconds"
    FITNESS = "fitness"


class CorrelationMethod(StrEnum):
    """How two columns are correlated."""

    PEARSON = "pearson"
    SPEARMAN = "spearman"


class PlotKind(StrEnum):
    """What is drawn."""

    SCATTER = "scatter"
    CORRELATIONS = "correlations"
    EFFECTS = "effects"
    PARALLEL = "parallel"


class PlotFormat(StrEnum):
    """What the file of a plot is."""

    PNG = "png"
    SVG = "svg"

    @property
    def media_type(self) -> str:
        """What HTTP calls it."""
        return "image/png" if self is PlotFormat.PNG else "image/svg+xml"


class ExportFormat(StrEnum):
    """What the file of an export is."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class ExportRows(StrEnum):
    """What a row of an export is about."""

    ARCHITECTURES = "architectures"
    TRIALS = "trials"
