"""A stopwatch for work on any device: a monotonic clock on the CPU, events on CUDA."""

import time

import torch


class Stopwatch:
    """Measures what is computed between its making and ``stop``; never waits for the device.

    On CUDA its events are recorded on the current stream of ``device``, whichever device is
    PyTorch's current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
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
        assert not isinstance(begin, float)
        assert not isinstance(end, float)
        if not end.query():  # type: ignore[no-untyped-call]
            end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def _mark(self) -> "float | torch.cuda.Event":
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
