"""Answers with statistics of a sweep. docs/protocol.md has the formulas."""

import math

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.jobs import JobOut
from api.schemas.leaderboard import NetworkOut
from services.analysis.comparison import JobComparison, SweepComparison
from services.analysis.correlations import Correlations, ParetoFront
from services.analysis.effects import Interactions, MainEffects, PairEffects, ParameterEffects
from services.analysis.importance import ImportanceShares
from services.analysis.result_table import Coverage, Level
from services.analysis.statistics.factorial import Effects, Estimator
from services.analysis.statistics.intervals import CONFIDENCE
from services.analysis.statistics.paired import RESAMPLES, PairedTest
from shared.domain.results.choices import CorrelationMethod, Target


def known(value: float) -> float | None:
    """Returns a number, or None for one that is not defined: JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class CoverageOut(_Out):
    total: int = Field(description="Architectures of the space.")
    used: int = Field(description="Architectures that this answer uses.")
    missing: dict[str, int] = Field(
        description="The others: by job state, and under `left_out` those that do not pass the "
        "filters or lack the value; a throughput of another device model is none."
    )
    device: list[str] = Field(description="The device models that measured these networks.")
    throughput_device: str | None = Field(
        description="The device model whose throughputs and fitness count."
    )
    min_throughput: float | None = Field(
        description="Networks that are slower than this on the device model, in images per second, "
        "are left out unless a filter names a status or a throughput; null where the protocol has "
        "no such gate."
    )

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
    n: list[list[int]] = Field(description="Number of networks behind each coefficient.")

    @classmethod
    def of(cls, correlations: Correlations) -> "CorrelationsOut":
        return cls(
            coverage=CoverageOut.of(correlations.coverage),
            method=correlations.method,
            names=correlations.names,
            coefficients=[[known(value) for value in row] for row in correlations.coefficients],
            n=correlations.counts.tolist(),
        )


class ParetoOut(BaseModel):
    coverage: CoverageOut
    front: list[NetworkOut] = Field(description="The fastest first, the most accurate last.")

    @classmethod
    def of(cls, pareto: ParetoFront) -> "ParetoOut":
        return cls(
            coverage=CoverageOut.of(pareto.coverage),
            front=list(map(NetworkOut.of_row, pareto.front)),
        )


class EffectOut(BaseModel):
    n: int
    mean: float | None = Field(description="Null where no network has this level.")
    low: float | None = Field(description="Lower end of the 95 % interval of the mean.")
    high: float | None
    effect: float | None


class LevelOut(EffectOut):
    level: Level = Field(description="Null: networks too shallow to have this layer.")


class CellOut(EffectOut):
    levels: tuple[Level, Level]


class ParameterEffectsOut(BaseModel):
    parameter: str = Field(examples=["kernel_size[0]"])
    levels: list[LevelOut] = Field(
        description="`effect` is the mean minus the mean of all networks."
    )

    @classmethod
    def of(cls, effects: ParameterEffects) -> "ParameterEffectsOut":
        rows = zip(effects.levels, _effects(effects.effects), strict=True)
        levels = [LevelOut(level=level, **effect) for level, effect in rows]
        return cls(parameter=str(effects.parameter), levels=levels)


class PairEffectsOut(BaseModel):
    parameters: tuple[str, str]
    cells: list[CellOut] = Field(
        description="`effect` is cell mean - row mean - column mean + mean of all."
    )

    @classmethod
    def of(cls, effects: PairEffects) -> "PairEffectsOut":
        places = [(a, b) for a in effects.levels[0] for b in effects.levels[1]]
        rows = zip(places, _effects(effects.effects), strict=True)
        cells = [CellOut(levels=levels, **effect) for levels, effect in rows]
        return cls(parameters=(str(effects.parameters[0]), str(effects.parameters[1])), cells=cells)


def _effects(effects: Effects) -> list[dict[str, float | int | None]]:
    columns = (effects.counts, effects.means, effects.half_widths, effects.effects)
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
    mean: float = Field(description="The mean over all networks used.")
    parameters: list[ParameterEffectsOut]

    @classmethod
    def of(cls, effects: MainEffects) -> "EffectsOut":
        return cls(
            coverage=CoverageOut.of(effects.coverage),
            target=effects.target,
            mean=effects.mean,
            parameters=[ParameterEffectsOut.of(parameter) for parameter in effects.parameters],
        )


class InteractionsOut(BaseModel):
    coverage: CoverageOut
    target: Target
    mean: float = Field(description="The mean over all networks used.")
    pairs: list[PairEffectsOut]

    @classmethod
    def of(cls, interactions: Interactions) -> "InteractionsOut":
        return cls(
            coverage=CoverageOut.of(interactions.coverage),
            target=interactions.target,
            mean=interactions.mean,
            pairs=[PairEffectsOut.of(pair) for pair in interactions.pairs],
        )


class ShareOut(BaseModel):
    parameter: str
    main: float = Field(description="Share of the variance that the parameter explains by itself.")
    total: float | None = Field(
        description="Share that includes its interactions; null unless the factorial is complete."
    )


class PairShareOut(BaseModel):
    parameters: tuple[str, str]
    share: float = Field(description="Share of the variance that the interaction explains.")


class ImportanceOut(BaseModel):
    coverage: CoverageOut
    target: Target
    estimator: Estimator = Field(
        description="`exact` on a complete factorial (Sobol's indices), else `type_ii` sums of "
        "squares, whose shares need not add up to `explained`."
    )
    explained: float = Field(description="Total share that these explain.")
    parameters: list[ShareOut]
    pairs: list[PairShareOut] = Field(description="Empty where there are too many for a model.")

    @classmethod
    def of(cls, importance: ImportanceShares) -> "ImportanceOut":
        return cls(
            coverage=CoverageOut.of(importance.coverage),
            target=importance.target,
            estimator=importance.estimator,
            explained=importance.explained,
            parameters=[
                ShareOut(parameter=str(share.parameter), main=share.main, total=share.total)
                for share in importance.parameters
            ],
            pairs=[
                PairShareOut(parameters=(str(a), str(b)), share=share)
                for a, b, share in importance.pairs
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
    trials: list[int] = Field(description="Trials that both have; all figures use only these.")
    images: int
    accuracies: tuple[float, float]
    difference: IntervalOut = Field(description="First minus second; bootstrap over images.")
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES
    answers: AnswersOut = Field(description="Counts over trials and images.")
    mcnemar: McNemarOut

    @classmethod
    def of(cls, comparison: JobComparison) -> "JobComparisonOut":
        return cls(
            first=JobOut.of(comparison.jobs[0]),
            second=JobOut.of(comparison.jobs[1]),
            trials=comparison.trials,
            images=comparison.images,
            accuracies=comparison.accuracies,
            difference=IntervalOut.model_validate(comparison.difference),
            answers=AnswersOut.model_validate(comparison.answers),
            mcnemar=McNemarOut.model_validate(comparison.test),
        )


class ComparedSweepOut(_Out):
    id: int
    name: str


class SweepComparisonOut(BaseModel):
    first: ComparedSweepOut
    second: ComparedSweepOut
    shared: int = Field(description="Architectures with results in both.")
    only_first: int
    only_second: int
    spearman: float | None = Field(
        description="Rank correlation of accuracies; null where it is undefined."
    )
    kendall: float | None
    difference: IntervalOut | None = Field(
        description="Mean accuracy of the first minus that of the second."
    )

    @classmethod
    def of(cls, comparison: SweepComparison) -> "SweepComparisonOut":
        agreement = comparison.agreement
        difference = agreement.difference and IntervalOut.model_validate(agreement.difference)
        return cls(
            first=ComparedSweepOut.model_validate(comparison.sweeps[0]),
            second=ComparedSweepOut.model_validate(comparison.sweeps[1]),
            shared=comparison.shared,
            only_first=comparison.only_first,
            only_second=comparison.only_second,
            spearman=agreement.spearman,
            kendall=agreement.kendall,
            difference=difference,
        )
