"""Throughput: repeated until steady, on an idle device, estimated only far below the gate."""

import fcntl
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shared.domain.architecture import Architecture
from shared.domain.measurements import Conditions, DeviceReading, Throughput, ThroughputSource
from shared.domain.protocol import MemoryFormat, Precision, Timing, TimingRepeat
from tests.engine.networks import CPU, digits_protocol, evaluate, layer, mixed_group
from worker import device_lock
from worker.device_lock import DeviceLock
from worker.engine import evaluate as evaluate_module
from worker.engine.timing import (
    LEAST_RUNS,
    MIN_RUNS,
    SURE_NETWORKS,
    UNSTEADY_SPREAD,
    LayerTimes,
    SlowestRates,
    measure_throughput,
    screen_throughput,
    time_unthrottled,
)

IMAGES = torch.rand(3, 2, 12, 12)


def nothing() -> None:
    """Ignores progress."""


class Sleeper(nn.Module):
    """A network that takes a known time and remembers its batches."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.batches: list[Tensor] = []

    def forward(self, batch: Tensor) -> Tensor:
        time.sleep(self.seconds[len(self.batches) % len(self.seconds)])
        self.batches.append(batch)
        return batch


class FirstCallSlow(Sleeper):
    """A network whose first call takes longer, as where a library is loaded."""

    def __init__(self, first_s: float, then_s: float) -> None:
        super().__init__(then_s)
        self.first_s = first_s

    def forward(self, batch: Tensor) -> Tensor:
        if not self.batches:
            time.sleep(self.first_s)
        return super().forward(batch)


def test_throughput_is_the_batch_over_the_median_of_repeated_runs() -> None:
    timing = Timing(batch_size=8, max_s=5, max_spread=0.5)
    network = Sleeper(0.01)
    throughput = measure_throughput(network, IMAGES, timing, nothing)
    assert 0 < throughput.images_per_s <= 8 / 0.01
    assert throughput.runs >= MIN_RUNS
    assert 0 <= throughput.spread < 0.5
    assert throughput.source is ThroughputSource.MEASURED
    assert {tuple(batch.shape) for batch in network.batches} == {(8, 2, 12, 12)}


def test_runs_repeat_until_the_time_limit_where_they_do_not_agree() -> None:
    timing = Timing(batch_size=2, max_s=0.25, max_spread=0.001)
    started = time.monotonic()
    throughput = measure_throughput(Sleeper(0.001, 0.015), IMAGES, timing, nothing)
    assert throughput.runs > MIN_RUNS
    assert throughput.spread > 0.001
    assert time.monotonic() - started > 0.25


def test_a_network_slower_than_the_limit_is_warmed_up_and_still_run_three_times() -> None:
    timing = Timing(batch_size=2, max_s=0.02)
    network = Sleeper(0.09, 0.05, 0.07, 0.06)
    throughput = measure_throughput(network, IMAGES, timing, nothing)
    assert throughput.runs == LEAST_RUNS == 3
    assert len(network.batches) == 2 + LEAST_RUNS
    assert throughput.spread > 0


def test_a_lock_and_its_folder_are_closed_to_other_users(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with DeviceLock(tmp_path / "run" / "device.lock").shared(nothing):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()} == {0o600}


def open_folder(folder: Path) -> None:
    folder.chmod(0o777)


def open_file(folder: Path) -> None:
    (folder / "device.lock").touch()
    (folder / "device.lock").chmod(0o666)


def give_folder_away(folder: Path) -> None:
    os.chown(folder, 12345, 12345)


def give_file_away(folder: Path) -> None:
    (folder / "device.lock").touch(0o600)
    os.chown(folder / "device.lock", 12345, 12345)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize(
    "prepare",
    [
        open_folder,
        open_file,
        pytest.param(give_folder_away, marks=AS_ROOT),
        pytest.param(give_file_away, marks=AS_ROOT),
    ],
)
def test_a_lock_that_another_user_could_hold_is_refused(
    prepare: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    prepare(folder)
    with (
        pytest.raises(PermissionError, match="other user"),
        DeviceLock(folder / "device.lock").shared(nothing),
    ):
        pass


def test_a_long_wait_for_a_device_is_reported_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "REPORT_AFTER_S", 0.1)
    spawn = multiprocessing.get_context("spawn")
    holding, release, path = spawn.Event(), spawn.Event(), tmp_path / "device.lock"
    other = spawn.Process(target=hold, args=(path, "exclusive", holding, release))
    other.start()
    assert holding.wait(60)
    reports: list[str | None] = []

    def report(problem: str | None) -> None:
        reports.append(problem)
        release.set()

    with DeviceLock(path, report).shared(nothing):
        [waiting, over] = reports
    assert waiting is not None
    assert str(path) in waiting
    assert over is None
    with DeviceLock(path, report).shared(nothing):
        assert len(reports) == 2  # no wait, no report
    other.join()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "device.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), DeviceLock(tmp_path / "device.lock").exclusive(nothing):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("memory_format", list(MemoryFormat))
@pytest.mark.parametrize("precision", list(Precision))
def test_the_options_of_the_protocol_reach_the_network(
    precision: Precision, memory_format: MemoryFormat
) -> None:
    timing = Timing(batch_size=4, max_s=0.01, precision=precision, memory_format=memory_format)
    network = Sleeper(0.001)
    measure_throughput(network, IMAGES, timing, nothing)
    bfloat16 = precision is Precision.BFLOAT16
    assert network.batches[0].dtype is (torch.bfloat16 if bfloat16 else torch.float32)
    layout = torch.contiguous_format
    if memory_format is MemoryFormat.CHANNELS_LAST:
        layout = torch.channels_last
    assert network.batches[0].is_contiguous(memory_format=layout)


def test_a_slow_first_call_takes_no_time_from_the_measurement() -> None:
    timing = Timing(batch_size=2, max_s=0.1, max_spread=0.9)
    network = FirstCallSlow(first_s=0.3, then_s=0.002)
    throughput = measure_throughput(network, IMAGES, timing, nothing)
    assert throughput.runs >= MIN_RUNS
    assert throughput.images_per_s > 2 / 0.05


def test_a_disturbed_measurement_is_repeated_and_the_steadier_one_counts() -> None:
    timing = Timing(batch_size=2, max_s=0.001, max_spread=0.9)
    warm_up, disturbed, steady = [0.002] * 2, [0.002, 0.05, 0.1], [0.02] * 3
    network = Sleeper(*warm_up, *disturbed, *steady)
    throughput = measure_throughput(network, IMAGES, timing, nothing)
    assert len(network.batches) == 2 + 2 * LEAST_RUNS
    assert throughput.spread < UNSTEADY_SPREAD
    assert throughput.images_per_s == pytest.approx(2 / 0.02, rel=0.3)


def test_a_layer_is_remembered_only_after_enough_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Throughput] = []

    def measure(*arguments: Any, **options: Any) -> Throughput:
        measured.append(measure_throughput(*arguments, **options))
        return measured[-1]

    monkeypatch.setattr("worker.engine.timing.measure_throughput", measure)
    timing = Timing(batch_size=2, max_s=1e-6)
    LayerTimes().estimate(Architecture((layer(4), layer(4))), (3, 20, 20), timing, CPU, nothing)
    assert [throughput.runs >= MIN_RUNS for throughput in measured] == [True, True]


@pytest.mark.parametrize(("repeat", "timed"), [("once", [0]), ("each_trial", [0, 1, 2])])
def test_weights_do_not_change_the_speed_so_a_network_is_timed_once(
    repeat: str, timed: list[int]
) -> None:
    timing = Timing(batch_size=2, max_s=0.01, repeat=TimingRepeat(repeat))
    protocol = digits_protocol(timing=timing)
    (outcome,) = evaluate(mixed_group()[:1], protocol, trials=range(3))
    assert [trial.trial for trial in outcome.trials if trial.throughput] == timed


@pytest.mark.parametrize(("repeat", "timed"), [("once", [1]), ("each_trial", [0, 1])])
def test_what_the_device_model_has_timed_before_is_not_timed_again(
    repeat: str, timed: list[int]
) -> None:
    timing = Timing(batch_size=2, max_s=0.01, repeat=TimingRepeat(repeat))
    outcomes = evaluate(
        mixed_group()[:2], digits_protocol(timing=timing), trials=range(1), timed=[True, False]
    )
    assert [n for n, outcome in enumerate(outcomes) if outcome.trials[0].throughput] == timed


def test_networks_that_surely_pass_the_gate_are_not_screened() -> None:
    rates, timing = SlowestRates(), Timing()
    for number in range(SURE_NETWORKS):
        assert not rates.surely_pass(CPU, timing, 10, 100)
        rates.add(CPU, timing, 1e6 + number)
    assert rates.surely_pass(CPU, timing, flops=10, min_throughput=100)
    assert not rates.surely_pass(CPU, timing, flops=10_000, min_throughput=100)
    assert not rates.surely_pass(CPU, Timing(batch_size=7), flops=10, min_throughput=100)
    rates.add(CPU, timing, 5_000)
    assert not rates.surely_pass(CPU, timing, flops=10, min_throughput=100)


def test_each_layer_shape_is_timed_once_per_device() -> None:
    times, timing = LayerTimes(), Timing(batch_size=2, max_s=0.01)
    shape = (3, 20, 20)
    first = Architecture((layer(4), layer(4), layer(4)))
    times.estimate(first, shape, timing, CPU, nothing)
    assert len(times) == 3
    again = times.estimate(first, shape, timing, CPU, nothing)
    assert len(times) == 3
    assert again == times.estimate(first, shape, timing, CPU, nothing)
    times.estimate(Architecture((layer(4), layer(4), layer(5))), shape, timing, CPU, nothing)
    assert len(times) == 4


def test_only_estimates_far_below_the_gate_stand_for_a_measurement() -> None:
    assert screen_throughput(70.1, 100) is None
    assert screen_throughput(500, 100) is None
    screened = screen_throughput(69.9, 100)
    assert screened is not None
    assert (screened.images_per_s, screened.runs) == (69.9, 0)
    assert screened.source is ThroughputSource.SCREENED


def hold(
    path: Path,
    kind: str,
    holding: "multiprocessing.synchronize.Event",
    release: "multiprocessing.synchronize.Event",
) -> None:
    """Holds a device's lock in a process of its own until it is asked to release it."""
    with getattr(DeviceLock(path), kind)(nothing):
        holding.set()
        release.wait(60)


@pytest.mark.parametrize(
    ("theirs", "ours", "waits"),
    [
        ("exclusive", "exclusive", True),
        ("exclusive", "shared", True),
        ("shared", "exclusive", True),
        ("shared", "shared", False),
    ],
)
def test_a_device_is_timed_by_one_process_while_no_other_computes(
    theirs: str, ours: str, waits: bool, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    holding, release, path = spawn.Event(), spawn.Event(), tmp_path / "device.lock"
    other = spawn.Process(target=hold, args=(path, theirs, holding, release))
    other.start()
    assert holding.wait(60)
    with getattr(DeviceLock(path), ours)(release.set):  # called while this process waits
        assert release.is_set() == waits
    release.set()
    other.join()
    assert other.exitcode == 0


# A process that gave no way would keep the lock for all of its 1,000 turns.
MAX_TURNS_WAITED = 20


def take_turns(path: Path, turns: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    """Holds a device exclusively again and again without a pause, and counts how often."""
    lock = DeviceLock(path)
    for _ in range(1000):
        with lock.exclusive(nothing):
            turns.value += 1
            time.sleep(0.05)


@pytest.mark.parametrize("kind", ["exclusive", "shared"])
def test_a_process_that_holds_a_device_again_and_again_lets_others_in_between(
    kind: str, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    turns, path = spawn.Value("i", 0), tmp_path / "device.lock"
    other = spawn.Process(target=take_turns, args=(path, turns))
    other.start()
    try:
        lock, waited = DeviceLock(path), []
        while turns.value == 0:
            time.sleep(0.01)
        for _ in range(5):
            before = turns.value
            with getattr(lock, kind)(nothing):
                waited.append(turns.value - before)
            time.sleep(0.2)
        assert sorted(waited)[2] <= MAX_TURNS_WAITED
    finally:
        other.kill()
        other.join()


def test_a_waiting_process_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"

    def stop() -> None:
        raise KeyboardInterrupt

    with (
        DeviceLock(path).shared(nothing),
        pytest.raises(KeyboardInterrupt),
        DeviceLock(path).exclusive(stop),
    ):
        pass
    with DeviceLock(path).exclusive(stop):
        pass


def test_networks_are_timed_under_the_exclusive_lock_and_probed_under_the_shared_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "device.lock"
    free: list[bool] = []

    def progress() -> None:
        if path.exists():
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                free.append(True)
            except BlockingIOError:
                free.append(False)
            finally:
                os.close(handle)

    protocol = digits_protocol(timing=Timing(batch_size=2, max_s=0.01))
    evaluate(mixed_group()[:2], protocol, on_progress=progress, device_lock=DeviceLock(path))
    assert free[0]
    assert not free[-1]
    assert free == sorted(free, reverse=True)


class Clock:
    """A meter of a device whose clock, in MHz, takes these values one after another."""

    def __init__(self, *clocks: float | None, default_mhz: float | None = 1000.0) -> None:
        self.clocks = iter(clocks)
        self.default_mhz = default_mhz

    def read(self) -> DeviceReading:
        return DeviceReading(clock_mhz=next(self.clocks))

    def conditions(self, before: DeviceReading, after: DeviceReading) -> Conditions:
        return Conditions("GPU-a", None, self.default_mhz, before, after)


def rates(*images_per_s: float) -> Callable[[], Throughput]:
    """Measurements with these results, one after another."""
    left = iter(images_per_s)
    return lambda: Throughput(next(left), 0.01, 9, ThroughputSource.REPLAYED)


def test_a_timing_on_a_throttled_device_is_discarded_and_made_again() -> None:
    clock = Clock(1000, 740, 800, 749, 700, 750)
    found = time_unthrottled(rates(1, 2, 3), clock, nothing, (0, 0, 0))
    assert found is not None
    assert found.images_per_s == 3
    assert found.conditions is not None
    assert found.conditions.before.clock_mhz == 700
    assert found.conditions.after.clock_mhz == 750


def test_a_device_that_stays_throttled_is_not_timed() -> None:
    clock = Clock(*[700.0] * 6)
    assert time_unthrottled(rates(1, 2, 3), clock, nothing, (0, 0)) is None


@pytest.mark.parametrize(("clock_mhz", "default_mhz"), [(None, 1000.0), (10.0, None)])
def test_a_device_whose_driver_names_no_clock_is_timed(
    clock_mhz: float | None, default_mhz: float | None
) -> None:
    clock = Clock(clock_mhz, clock_mhz, default_mhz=default_mhz)
    found = time_unthrottled(rates(1), clock, nothing, ())
    assert found is not None


def test_the_pause_of_a_throttled_device_calls_for_progress() -> None:
    calls: list[None] = []
    clock = Clock(700, 700, 1000, 1000)
    started = time.monotonic()
    time_unthrottled(rates(1, 2), clock, lambda: calls.append(None), (0.05,))
    assert time.monotonic() - started >= 0.05
    assert calls


def test_networks_of_a_throttled_device_are_probed_and_left_untimed() -> None:
    clock = Clock(*[700.0] * 100)
    protocol = digits_protocol(timing=Timing(batch_size=4, max_s=0.01))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "COOLING_S", ())
        outcomes = evaluate(mixed_group(), protocol, meter=clock)
    done = [outcome for outcome in outcomes if outcome.trials]
    assert done
    assert all(outcome.throttled for outcome in done)
    assert all(trial.throughput is None for outcome in done for trial in outcome.trials)
