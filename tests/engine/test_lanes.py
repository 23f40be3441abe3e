"""Lanes: everything done once, errors and stops passed on, nothing left behind."""

# Every promise holds for one lane, which is the caller's thread, and for several.

import threading
import time
from collections.abc import Callable

import pytest
import torch

from worker.engine.cpu.lanes import MAX_LANES, Lanes

CPU = torch.device("cpu")
THREADS = (1, 2, 7)


def nothing() -> None:
    """Progress that no test watches."""


@pytest.mark.parametrize("threads", [*THREADS, 4 * MAX_LANES])
def test_lanes_share_the_threads(threads: int) -> None:
    shares: list[int] = []
    with Lanes(CPU, threads) as lanes:
        assert lanes.count == min(threads, MAX_LANES)
        lanes.each(lambda _: shares.append(torch.get_num_threads()), range(20), nothing)
    if lanes.count > 1:
        assert set(shares) == {threads // lanes.count}


@pytest.mark.parametrize("threads", THREADS)
def test_every_item_is_worked_on_once_without_gradients_and_progress_stays_here(
    threads: int,
) -> None:
    done: list[tuple[int, bool]] = []
    progress: list[threading.Thread] = []
    with Lanes(CPU, threads) as lanes:
        lanes.each(
            lambda item: done.append((item, torch.is_inference_mode_enabled())),
            range(50),
            lambda: progress.append(threading.current_thread()),
        )
    assert {item for item, _ in done} == set(range(50))
    assert len(done) == len(progress) == 50
    assert set(progress) == {threading.current_thread()}
    assert all(without_gradients for _, without_gradients in done)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("raising", ["work", "progress"])
def test_what_is_raised_ends_the_work_and_is_raised_again(raising: str, threads: int) -> None:
    """When it is raised here, all that was begun has ended, and nothing begins after that."""
    begun: list[int] = []
    done: list[int] = []

    def fail() -> None:
        raise KeyError("stop")

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)
        done.append(item)
        if raising == "work":
            fail()

    progress: Callable[[], None] = fail if raising == "progress" else nothing
    with Lanes(CPU, threads) as lanes:
        with pytest.raises(KeyError, match="stop"):
            lanes.each(work, range(2_000), progress)
        ended = list(done)
        assert sorted(begun) == sorted(ended)
        time.sleep(0.02)  # the lanes still live: time for one that goes on to be noticed
        assert sorted(begun) == sorted(ended)
    assert 1 <= len(ended) < 2_000


@pytest.mark.parametrize("threads", THREADS)
def test_threads_of_the_process_are_as_before(threads: int) -> None:
    products: list[torch.Tensor] = []
    before, running = torch.get_num_threads(), threading.active_count()
    with Lanes(CPU, threads) as lanes:
        lanes.each(lambda item: products.append(torch.ones(item).sum()), range(1, 9), nothing)
    assert torch.get_num_threads() == before
    assert threading.active_count() == running
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]
