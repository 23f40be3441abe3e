"""The heavy work: each function runs in a process of the pool and returns the answer's bytes."""

from collections.abc import Sequence

from pydantic import BaseModel

from api.computing.process import open_session
from api.schemas.analysis import (
    CorrelationsOut,
    EffectsOut,
    ImportanceOut,
    InteractionsOut,
    JobComparisonOut,
    ParetoOut,
    SweepComparisonOut,
)
from api.schemas.devices import DevicesOut
from api.schemas.explore import AnswersByImageOut, PointsOut
from api.schemas.sweeps import PreviewOut
from api.schemas.trainings import ProbeVsTrainedList, ProbeVsTrainedOut
from services.analysis.answers import tally_answers
from services.analysis.comparison import compare_jobs, compare_sweeps
from services.analysis.correlations import correlate_results, find_pareto_front
from services.analysis.effects import estimate_interactions, estimate_main_effects
from services.analysis.importance import estimate_importance
from services.analysis.points import load_points
from services.analysis.result_table import ResultSelection
from services.calibration.devices import compare_devices
from services.sweeps.creation import preview_sweep
from services.sweeps.warnings import find_warnings
from services.trainings.probe_vs_trained import compare_probe_with_training
from shared.db.availability import DATABASE_UNAVAILABLE, log_unavailable
from shared.domain.protocol import Protocol
from shared.domain.results.choices import CorrelationMethod, Target
from shared.domain.space import SearchSpace


def preview(space: SearchSpace, protocol: Protocol) -> bytes:
    return _json(PreviewOut.of(preview_sweep(space, protocol), _warnings(protocol)))


def _warnings(protocol: Protocol) -> list[str]:
    """Returns warnings; none while the database is unavailable, since the rest needs none."""
    try:
        with open_session() as session:
            return find_warnings(session, protocol)
    except DATABASE_UNAVAILABLE as error:
        log_unavailable(error)
        return []


def correlations(sweep_id: int, selection: ResultSelection, method: CorrelationMethod) -> bytes:
    with open_session() as session:
        return _json(CorrelationsOut.of(correlate_results(session, sweep_id, selection, method)))


def pareto(sweep_id: int, selection: ResultSelection) -> bytes:
    with open_session() as session:
        return _json(ParetoOut.of(find_pareto_front(session, sweep_id, selection)))


def effects(sweep_id: int, selection: ResultSelection, target: Target) -> bytes:
    with open_session() as session:
        return _json(EffectsOut.of(estimate_main_effects(session, sweep_id, selection, target)))


def interactions(
    sweep_id: int, selection: ResultSelection, target: Target, parameters: Sequence[str]
) -> bytes:
    with open_session() as session:
        interactions = estimate_interactions(session, sweep_id, selection, target, parameters)
        return _json(InteractionsOut.of(interactions))


def importance(sweep_id: int, selection: ResultSelection, target: Target) -> bytes:
    with open_session() as session:
        return _json(ImportanceOut.of(estimate_importance(session, sweep_id, selection, target)))


def devices(sweep_id: int, reference_version: int) -> bytes:
    with open_session() as session:
        comparison = compare_devices(session, sweep_id, reference_version=reference_version)
        return _json(DevicesOut.of(comparison))


def sweep_comparison(sweep_id: int, other_id: int) -> bytes:
    with open_session() as session:
        return _json(SweepComparisonOut.of(compare_sweeps(session, sweep_id, other_id)))


def job_comparison(job_id: int, other_id: int) -> bytes:
    with open_session() as session:
        return _json(JobComparisonOut.of(compare_jobs(session, job_id, other_id)))


def points(sweep_id: int, selection: ResultSelection, fields: Sequence[str]) -> bytes:
    with open_session() as session:
        loaded = load_points(session, sweep_id, selection, fields)
    return PointsOut.json_of(sweep_id, loaded).encode()


def answers(job_id: int) -> bytes:
    with open_session() as session:
        return _json(AnswersByImageOut.of(tally_answers(session, job_id)))


def probe_vs_trained(sweep_id: int, k: int | None) -> bytes:
    with open_session() as session:
        comparisons = compare_probe_with_training(session, sweep_id, k)
    recipes = [ProbeVsTrainedOut.of(comparison) for comparison in comparisons]
    return _json(ProbeVsTrainedList(recipes=recipes))


def _json(answer: BaseModel) -> bytes:
    return answer.model_dump_json().encode()
