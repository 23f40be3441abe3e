"""Lanes: everything done once, errors and stops passed on, nothing left behind."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

from worker.engine.cpu.lanes import Lanes

CPU = torch.device("cpu")


def nothing() -> None:
    """Progress that nobody watches."""


def test_every_item_is_worked_on_once_without_gradients_and_progress_stays_here() -> None:
    done: list[tuple[int, bool]] = []
    progress: list[threading.Thread] = []
    with Lanes(CPU) as lanes:
        lanes.each(
            lambda item: done.append((item, torch.is_inference_mode_enabled())),
            range(50),
            lambda: progress.append(threading.current_thread()),
        )
    assert {item for item, _ in done} == set(range(50))
    assert len(done) == len(progress) == 50
    assert set(progress) == {threading.current_thread()}
    if torch.get_num_threads() > 1:
        assert all(without_gradients for _, without_gradients in done)


@pytest.mark.parametrize("raising", ["work", "progress"])
def test_what_is_raised_ends_the_work_and_is_raised_again(raising: str) -> None:
    done: list[int] = []

    def fail() -> None:
        raise KeyError("stop")

    def work(item: int) -> None:
        time.sleep(0.001)
        done.append(item)
        if raising == "work":
            fail()

    progress: Callable[[], None] = fail if raising == "progress" else nothing
    with Lanes(CPU) as lanes, pytest.raises(KeyError, match="stop"):
        lanes.each(work, range(2_000), progress)
    finished = len(done)
    assert 1 <= finished < 2_000
    assert len(done) == finished


def test_threads_of_the_process_are_as_before() -> None:
    products: list[torch.Tensor] = []
    threads, running = torch.get_num_threads(), threading.active_count()
    with Lanes(CPU) as lanes:
        lanes.each(lambda item: products.append(torch.ones(item).sum()), range(1, 9), nothing)
    assert torch.get_num_threads() == threads
    assert threading.active_count() == running
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [threads]
