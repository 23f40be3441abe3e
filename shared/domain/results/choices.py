"""The choices that services, API and command line offer, each list in one place."""

from enum import StrEnum


class Target(StrEnum):
    """A result that effects and importance explain: the analysable columns of the registry."""

    ACCURACY = "accuracy"
    TRAIN_ACCURACY = "train_accuracy"
    THROUGHPUT = "throughput"
    FIT_SECONDS = "fit_seconds"
    FITNESS = "fitness"


class CorrelationMethod(StrEnum):
    """The correlation coefficient."""

    PEARSON = "pearson"
    SPEARMAN = "spearman"


class PlotKind(StrEnum):
    """The kind of plot."""

    SCATTER = "scatter"
    CORRELATIONS = "correlations"
    EFFECTS = "effects"
    PARALLEL = "parallel"


class PlotFormat(StrEnum):
    """The file format of a plot."""

    PNG = "png"
    SVG = "svg"

    @property
    def media_type(self) -> str:
        """The media type in HTTP."""
        return "image/png" if self is PlotFormat.PNG else "image/svg+xml"


class ExportFormat(StrEnum):
    """The file format of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class ExportRows(StrEnum):
    """What a row of an export describes."""

    ARCHITECTURES = "architectures"
    TRIALS = "trials"
