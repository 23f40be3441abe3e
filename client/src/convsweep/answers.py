"""Types of the API's most used answers. Dictionaries hold exactly these fields."""

from typing import Any, TypedDict


class Layer(TypedDict):
    """One convolution and the activation after it."""

    channels: int
    kernel_size: int
    stride: int
    dilation: int
    padding: int
    activation: str


class RankedNetwork(TypedDict):
    """One row of a leaderboard. Accuracies are fractions, throughput is images per second."""

    rank: int
    id: int
    sweep_id: int
    architecture_hash: str
    layers: list[Layer]
    ratio: float | None
    parameters: int | None
    flops: int | None
    status: str
    reason: str | None
    error: str | None
    attempt: int
    trials_done: int
    trials_target: int
    accuracy: float | None
    accuracy_sd: float | None
    accuracy_se: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    accuracy_min: float | None
    accuracy_max: float | None
    train_accuracy: float | None
    throughput: float | None
    throughput_min: float | None
    throughput_max: float | None
    throughput_kind: str | None
    throughput_measured: bool | None
    throughput_device: str | None
    fit_seconds: float | None
    fitness: float | None
    device: str | None
    finished_at: str | None


class LeaderboardPage(TypedDict):
    """One page of a leaderboard, and the device model whose throughputs it shows."""

    sweep_id: int
    rows: list[RankedNetwork]
    throughput_device: str | None
    timed: dict[str, int]
    measured: dict[str, int]
    min_throughput: float | None
    next_page_token: str | None


class Preview(TypedDict):
    """The size and cost of a sweep before it is created; ``flops`` is for one image.

    ``warnings`` says what it asks for and no running worker has.
    """

    total: int
    valid: int
    invalid: dict[str, int]
    equivalent: int
    groups: int
    flops: int
    flops_per_trial: int
    warnings: list[str]


class WorkerProblem(TypedDict):
    """Why a worker cannot serve a sweep, or trainings of it."""

    sweep_id: int
    training_id: int | None
    problem: str
    since: str


class SweepProblem(WorkerProblem):
    """A problem with the worker that has it."""

    worker_id: str
    hostname: str


class Sweep(TypedDict):
    """A sweep with its jobs by state.

    ``jobs_per_s``, ``eta_s`` and its range from ``eta_low_s`` to ``eta_high_s`` (seconds) are None
    while unknown; ``waiting_for`` says what a running sweep that does not move waits for.
    """

    id: int
    name: str
    status: str
    total: int
    counts: dict[str, int]
    finished: int
    jobs_per_s: float | None
    eta_s: float | None
    eta_low_s: float | None
    eta_high_s: float | None
    waiting_for: str | None
    problems: list[SweepProblem]
    created_at: str
    completed_at: str | None
    dataset_hash: str | None
    space: dict[str, Any]
    protocol: dict[str, Any]


class CreatedSweep(Sweep):
    """A new sweep; ``warnings`` says what it asks for and no running worker has."""

    warnings: list[str]


class WorkerState(TypedDict):
    """A worker process: its device, its datasets, its current group and any blocking problem."""

    id: str
    hostname: str
    pid: int
    device_class: str
    device: str
    code_version: str
    datasets: dict[str, list[str]]
    problem: str | None
    problem_at: str | None
    problems: list[WorkerProblem]
    started_at: str
    last_seen_at: str
    sweep_id: int | None
    group_index: int | None
    jobs: int | None
    jobs_per_s: float | None
