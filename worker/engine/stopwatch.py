"""A stopwatch for work on any device: a monotonic clock on the CPU, events on CUDA."""

import time

import torch


class Stopwatch:
    """Measures what is computed between its making and ``stop``; never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks = [self._mark()]

    def stop(self) -> "Stopwatch":
        """Ends the measurement and returns this stopwatch."""
        self._marks.append(self._mark())
        return self

    def seconds(self) -> float:
        """Returns the seconds between start and stop; on CUDA it waits until they are over."""
        begin, end = self._marks
        if isinstance(begin, float) and isinstance(end, float):
            return end - begin
        assert isinstance(begin, torch.cuda.Event)
        assert isinstance(end, torch.cuda.Event)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def _mark(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
