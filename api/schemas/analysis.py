"""What goes out about statistics of a sweep. docs/protocol.md has the formulas."""

import math

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.jobs import JobOut
from services.analysis.comparison import JobComparison, SweepComparison
from services.analysis.correlations import Correlations, ParetoFront
from services.analysis.effects import Interactions, MainEffects, PairEffects, ParameterEffects
from services.analysis.importance import ImportanceShares
from services.analysis.result_table import Coverage, Level
from services.analysis.statistics.factorial import Effects, Estimator
from services.analysis.statistics.intervals import CONFIDENCE
from services.analysis.statistics.paired import RESAMPLES, PairedTest
from shared.domain.choices import CorrelationMethod, Target


def known(value: float) -> float | None:
    """Returns a number, or None for one that is not defined: JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class CoverageOut(_Out):
    total: int = Field(description="Architectures of the space.")
    used: int = Field(description="Those that this answer rests on.")
    missing: dict[str, int] = Field(
        description="The others: by job state, and under `left_out` those that do not pass the "
        "filters, were measured on another device or lack the value."
    )
    device: list[str] = Field(description="The device models whose results were used.")

    @classmethod
    def of(cls, coverage: Coverage) -> "CoverageOut":
        return cls.model_validate(coverage)


class CorrelationsOut(BaseModel):
    coverage: CoverageOut
    method: CorrelationMethod
    names: list[str] = Field(examples=[["kernel_size[0]", "stride[0]", "ratio", "accuracy"]])
    coefficients: list[list[float | None]] = Field(
        description="By name and name; null where one of the two does not vary."
    )
    n: list[list[int]] = Field(description="How many networks each coefficient rests on.")

    @classmethod
    def of(cls, found: Correlations) -> "CorrelationsOut":
        return cls(
            coverage=CoverageOut.of(found.coverage),
            method=found.method,
            names=found.names,
            coefficients=[[known(value) for value in row] for row in found.coefficients],
            n=found.counts.tolist(),
        )


class ParetoOut(BaseModel):
    coverage: CoverageOut
    front: list[JobOut] = Field(description="The fastest first, the most accurate last.")

    @classmethod
    def of(cls, found: ParetoFront) -> "ParetoOut":
        return cls(
            coverage=CoverageOut.of(found.coverage), front=[JobOut.of(job) for job in found.jobs]
        )


class EffectOut(BaseModel):
    n: int
    mean: float | None = Field(description="Null where no network has this.")
    low: float | None = Field(description="Where the 95 % interval of the mean begins.")
    high: float | None
    effect: float | None


class LevelOut(EffectOut):
    level: Level = Field(description="Null: networks too shallow to have this layer.")


class CellOut(EffectOut):
    levels: tuple[Level, Level]


class ParameterEffectsOut(BaseModel):
    parameter: str = Field(examples=["kernel_size[0]"])
    levels: list[LevelOut] = Field(description="`effect` is the mean less the mean of all.")

    @classmethod
    def of(cls, found: ParameterEffects) -> "ParameterEffectsOut":
        rows = zip(found.levels, _effects(found.effects), strict=True)
        levels = [LevelOut(level=level, **effect) for level, effect in rows]
        return cls(parameter=str(found.parameter), levels=levels)


class PairEffectsOut(BaseModel):
    parameters: tuple[str, str]
    cells: list[CellOut] = Field(
        description="`effect` is cell mean - row mean - column mean + mean of all."
    )

    @classmethod
    def of(cls, found: PairEffects) -> "PairEffectsOut":
        places = [(a, b) for a in found.levels[0] for b in found.levels[1]]
        rows = zip(places, _effects(found.effects), strict=True)
        cells = [CellOut(levels=levels, **effect) for levels, effect in rows]
        return cls(parameters=(str(found.parameters[0]), str(found.parameters[1])), cells=cells)


def _effects(found: Effects) -> list[dict[str, float | int | None]]:
    columns = (found.counts, found.means, found.half_widths, found.effects)
    return [
        {
            "n": n, "mean": known(mean), "effect": known(effect),
            "low": known(mean - half), "high": known(mean + half),
        }
        for n, mean, half, effect in zip(*(column.tolist() for column in columns), strict=True)
    ]  # fmt: skip


class EffectsOut(BaseModel):
    coverage: CoverageOut
    target: Target
    mean: float = Field(description="Of all networks used.")
    parameters: list[ParameterEffectsOut]

    @classmethod
    def of(cls, found: MainEffects) -> "EffectsOut":
        return cls(
            coverage=CoverageOut.of(found.coverage),
            target=found.target,
            mean=found.mean,
            parameters=[ParameterEffectsOut.of(one) for one in found.parameters],
        )


class InteractionsOut(BaseModel):
    coverage: CoverageOut
    target: Target
    mean: float = Field(description="Of all networks used.")
    pairs: list[PairEffectsOut]

    @classmethod
    def of(cls, found: Interactions) -> "InteractionsOut":
        return cls(
            coverage=CoverageOut.of(found.coverage),
            target=found.target,
            mean=found.mean,
            pairs=[PairEffectsOut.of(one) for one in found.pairs],
        )


class ShareOut(BaseModel):
    parameter: str
    main: float = Field(description="Share of the variance that it explains alone.")
    total: float | None = Field(
        description="Share that it is involved in; null unless the factorial is complete."
    )


class PairShareOut(BaseModel):
    parameters: tuple[str, str]
    share: float = Field(description="Share of the variance that only both together explain.")


class ImportanceOut(BaseModel):
    coverage: CoverageOut
    target: Target
    estimator: Estimator = Field(
        description="`exact` on a complete factorial (Sobol's indices), else `type_ii` sums of "
        "squares, whose shares need not add up to `explained`."
    )
    explained: float = Field(description="Share that all of these explain together.")
    parameters: list[ShareOut]
    pairs: list[PairShareOut] = Field(description="Empty where there are too many for a model.")

    @classmethod
    def of(cls, found: ImportanceShares) -> "ImportanceOut":
        return cls(
            coverage=CoverageOut.of(found.coverage),
            target=found.target,
            estimator=found.estimator,
            explained=found.explained,
            parameters=[
                ShareOut(parameter=str(one.parameter), main=one.main, total=one.total)
                for one in found.parameters
            ],
            pairs=[
                PairShareOut(parameters=(str(a), str(b)), share=share)
                for a, b, share in found.pairs
            ],
        )


class IntervalOut(_Out):
    mean: float
    low: float | None
    high: float | None


class AnswersOut(_Out):
    both: int
    only_first: int
    only_second: int
    neither: int


class McNemarOut(_Out):
    test: PairedTest
    statistic: float
    p_value: float
    images_for_first: int
    images_for_second: int


class JobComparisonOut(BaseModel):
    first: JobOut
    second: JobOut
    trials: list[int] = Field(description="Those that both have; all figures are over these.")
    images: int
    accuracies: tuple[float, float]
    difference: IntervalOut = Field(description="First less second; bootstrap over images.")
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    answers: AnswersOut = Field(description="Counts over trials and images.")
    mcnemar: McNemarOut

    @classmethod
    def of(cls, found: JobComparison) -> "JobComparisonOut":
        return cls(
            first=JobOut.of(found.jobs[0]),
            second=JobOut.of(found.jobs[1]),
            trials=found.trials,
            images=found.images,
            accuracies=found.accuracies,
            difference=IntervalOut.model_validate(found.difference),
            answers=AnswersOut.model_validate(found.answers),
            mcnemar=McNemarOut.model_validate(found.test),
        )


class ComparedSweepOut(_Out):
    id: int
    name: str


class SweepComparisonOut(BaseModel):
    first: ComparedSweepOut
    second: ComparedSweepOut
    shared: int = Field(description="Architectures that completed in both.")
    only_first: int
    only_second: int
    spearman: float | None = Field(description="Of accuracies; null where nothing can be said.")
    kendall: float | None
    difference: IntervalOut | None = Field(description="Mean accuracy of the first less second.")

    @classmethod
    def of(cls, found: SweepComparison) -> "SweepComparisonOut":
        agreement = found.agreement
        difference = agreement.difference and IntervalOut.model_validate(agreement.difference)
        return cls(
            first=ComparedSweepOut.model_validate(found.sweeps[0]),
            second=ComparedSweepOut.model_validate(found.sweeps[1]),
            shared=found.shared,
            only_first=found.only_first,
            only_second=found.only_second,
            spearman=agreement.spearman,
            kendall=agreement.kendall,
            difference=difference,
        )
