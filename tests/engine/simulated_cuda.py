"""A simulated CUDA device: tensors report ``cuda:N`` and hold their values on the CPU.

Every operation of PyTorch passes a ``Recorder``. It computes on the CPU what the device would, and
notes kernel launches, waits for the device, and operations that mix devices.
"""

import contextlib
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

CUDA_0 = torch.device("cuda", 0)
CUDA_1 = torch.device("cuda", 1)

# Operations that only describe or allocate memory: no kernel runs.
NO_KERNEL = frozenset({
    "alias", "as_strided", "detach", "diagonal", "expand", "lift_fresh", "permute", "reshape",
    "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
    "unsqueeze", "view", "_reshape_alias", "_unsafe_view", "empty", "empty_like", "empty_strided",
    "new_empty", "new_empty_strided", "set_", "resize_", "record_stream",
})  # fmt: skip
# Operations whose result, or its shape, the host has to wait for.
WAITING = frozenset({
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal",
    "is_nonzero",
})  # fmt: skip
COPYING = frozenset({"_to_copy", "copy_"})
INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
FACTORISING_LAUNCHES = 4  # of one call of cuSOLVER for a batch of matrices


class SimulatedTensor(Tensor):
    """A tensor that reports a CUDA device; ``stored`` holds its values on the CPU."""

    stored: Tensor
    simulated_device: torch.device

    @staticmethod
    def __new__(cls, stored: Tensor, device: torch.device) -> "SimulatedTensor":
        made: SimulatedTensor = torch.Tensor._make_subclass(
            cls, stored, stored.requires_grad, dispatch_device=True, device_for_backend_keys=device
        )
        made.stored, made.simulated_device = stored, device
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.prim.device.default:
            return args[0].simulated_device
        if function is aten.detach.default:
            return SimulatedTensor(function(args[0].stored), args[0].simulated_device)
        if Recorder.current is None:
            raise RuntimeError(f"{function} runs outside of the simulated device")
        return Recorder.current.run(function, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"SimulatedTensor({tuple(self.shape)}, {self.dtype}, {self.simulated_device})"


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs operations of simulated tensors and notes what a device would have done.

    ``launches`` counts kernels by operation, ``waits`` and ``mixed`` by operation and place in the
    code, ``convolutions`` by (images, input shape, weight shape, stride, padding, dilation), and
    ``events`` holds the device on whose stream each event was recorded.
    """

    current: "Recorder | None" = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.mixed: Counter[str] = Counter()
        self.convolutions: Counter[tuple[object, ...]] = Counter()
        self.events: list[torch.device] = []
        self.current_device = CUDA_0
        self.graph: SimulatedGraph | None = None
        self.most_convolved: int | None = None  # images; cuDNN has no memory for more
        self.refused = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return self.run(function, args, kwargs or {})

    def wait(self, why: str) -> None:
        """Notes that the host waits for the device; while a graph is captured it must not."""
        if self.graph is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {why}")
        self.waits[f"{why} at {_place()}"] += 1

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs one operation: on the CPU as it is, else decomposed, noted and simulated."""
        operands = tree_leaves((args, kwargs))
        device = _result_device(operands, kwargs, self.current_device)
        if device is None:
            return function(*args, **kwargs)
        if function is torch.ops.prim.device.default:
            return device
        if _is_composite(function):
            with self:
                return function.decompose(*args, **kwargs)
        name = _name(function)
        if name in ("pin_memory", "_pin_memory"):
            return args[0]
        self._note(name, args, kwargs, operands)
        return self._compute(function, args, kwargs, device)

    def _compute(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], device: torch.device
    ) -> Any:
        stored_args, stored_kwargs = tree_map(_stored, args), tree_map(_stored, kwargs)
        compute = ON_CPU.get(function, function)
        if self.graph is not None:
            self.graph.calls.append(lambda: compute(*stored_args, **stored_kwargs))
        result = compute(*stored_args, **stored_kwargs)
        changed = _changed_argument(function, args, kwargs)
        if isinstance(changed, SimulatedTensor):
            return changed
        if _name(function) == "_local_scalar_dense" or device.type != "cuda":
            return result
        return tree_map(lambda part: _simulated(part, device), result)

    def _note(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], operands: list[Any]
    ) -> None:
        if name in COPYING:
            self._note_copy(name, args, kwargs)
            return
        self._note_devices(name, operands)
        if name in WAITING:
            self.wait(name)
        if name in INDEXING and any(_is_mask(part) for part in operands[1:]):
            self.wait(f"{name} with a mask")
        if name in ("convolution", "cudnn_convolution_relu"):
            self._note_convolution(name, args)
        elif name == "linalg_cholesky_ex":
            self.launches[name] += FACTORISING_LAUNCHES
        elif name in ("cholesky_solve", "_cholesky_solve_helper"):
            self.launches[name] += math.prod(args[1].shape[:-2])  # cuSOLVER solves one by one
        elif name not in NO_KERNEL:
            self.launches[name] += 1

    def _note_convolution(self, name: str, args: tuple[Any, ...]) -> None:
        images, weight, bias, *geometry = args
        if self.most_convolved is not None and len(images) > self.most_convolved:
            self.refused += 1
            raise RuntimeError("FIND was unable to find an engine to execute this computation")
        self.launches[name] += 1
        if name == "convolution" and bias is not None:
            self.launches["bias of a convolution"] += 1
        key = (len(images), tuple(images.shape[1:]), tuple(weight.shape), repr(geometry[:3]))
        self.convolutions[key] += 1

    def _note_copy(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        source, target_on_cuda = args[0], isinstance(args[0], SimulatedTensor)
        if name == "copy_":
            source = args[1]
        elif kwargs.get("device") is not None:
            target_on_cuda = torch.device(kwargs["device"]).type == "cuda"
        source_on_cuda = isinstance(source, SimulatedTensor)
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        if source_on_cuda and not target_on_cuda:
            self.wait("copy to the host")
        elif target_on_cuda and not source_on_cuda and waits:
            self.wait("copy from the host")
        elif target_on_cuda and source_on_cuda:
            self.launches[name] += 1

    def _note_devices(self, name: str, operands: list[Any]) -> None:
        """Notes operands on two devices; a CPU tensor without dimensions is a number to CUDA."""
        tensors = [part for part in operands if isinstance(part, Tensor)]
        devices = {_device_of(part) for part in tensors if part.dim() > 0 or _on_cuda(part)}
        if len(devices) > 1:
            self.mixed[f"{name} at {_place()}"] += 1


class SimulatedStream:
    """A stream of one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: "SimulatedStream") -> None:
        """Streams of a device that computes at once are always in order."""


class SimulatedEvent:
    """An event on the wall clock that knows the device of its stream."""

    def __init__(self, *, enable_timing: bool = False) -> None:
        self._timed = enable_timing
        self._at = 0.0
        self._waits = 0

    def record(self, stream: SimulatedStream | None = None) -> None:
        recorder = _recorder()
        self._at = time.perf_counter()
        self._waits = recorder.waits.total()
        recorder.events.append(stream.device if stream is not None else recorder.current_device)

    def synchronize(self) -> None:
        _recorder().wait("event")

    def query(self) -> bool:
        """Returns whether the host has waited for the device since this event was recorded."""
        return _recorder().waits.total() > self._waits

    def elapsed_time(self, other: "SimulatedEvent") -> float:
        assert self._timed, "an event without enable_timing has no time"
        return (other._at - self._at) * 1e3


class SimulatedGraph:
    """A CUDA graph: what is captured runs again, on the same memory, by one launch."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def capture_begin(self, **_options: Any) -> None:
        _recorder().graph = self

    def capture_end(self) -> None:
        _recorder().graph = None

    def replay(self) -> None:
        _recorder().launches["graph"] += 1
        for call in self.calls:
            call()


@contextlib.contextmanager
def _capture(graph: SimulatedGraph, **_options: Any) -> Iterator[None]:
    graph.capture_begin()
    try:
        yield
    finally:
        graph.capture_end()


@contextlib.contextmanager
def simulated_cuda() -> Iterator[Recorder]:
    """Yields a recorder; meanwhile tensors can be made on, and moved to, ``cuda:0`` and ``cuda:1``.

    Only PyTorch's own entry points are replaced; the engine runs unchanged.
    """
    recorder = Recorder()

    def set_device(device: torch.device | int) -> None:
        recorder.current_device = torch.device("cuda", torch.device(device).index or 0)

    def stream(device: torch.device | None = None) -> SimulatedStream:
        return SimulatedStream(_with_index(device or recorder.current_device))

    replaced = {
        "Event": SimulatedEvent, "CUDAGraph": SimulatedGraph, "graph": _capture,
        "current_stream": stream, "set_device": set_device, "Stream": stream,
        "stream": lambda _: contextlib.nullcontext(),
        "synchronize": lambda *_: recorder.wait("synchronize"), "empty_cache": lambda: None,
        "_lazy_init": lambda: None,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, replacement in replaced.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, replacement))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self, *_: self))
        stack.enter_context(mock.patch.object(torch, "empty", _empty))
        stack.enter_context(_cuda_dispatch())
        stack.enter_context(mock.patch.object(Recorder, "current", recorder))
        stack.enter_context(recorder)
        yield recorder


@contextlib.contextmanager
def _cuda_dispatch() -> Iterator[None]:
    """Lets this build of PyTorch dispatch to CUDA without a device, as its fake tensors do."""
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)


_torch_empty = torch.empty


def _empty(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
    """Returns unpinned memory: pinning needs a driver."""
    return _torch_empty(*size, **options)


def _fused_convolution(
    images: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any
) -> Tensor:
    stride, padding, dilation, groups = geometry
    output = torch.nn.functional.conv2d(images, weight, bias, stride, padding, dilation, groups)
    return output.relu_()


# What the CPU computes in place of operations that only CUDA has.
ON_CPU: dict[Any, Callable[..., Any]] = {
    aten.cudnn_convolution_relu.default: _fused_convolution,
}


def _recorder() -> Recorder:
    assert Recorder.current is not None, "outside of the simulated device"
    return Recorder.current


def _name(function: Any) -> str:
    return str(function._schema.name).removeprefix("aten::")


def _is_composite(function: Any) -> bool:
    key = "CompositeImplicitAutograd"
    return _name(function) == "to" or torch._C._dispatch_has_kernel_for_dispatch_key(
        function.name(), key
    )


def _on_cuda(part: Any) -> bool:
    return isinstance(part, SimulatedTensor)


def _device_of(part: Tensor) -> torch.device:
    return part.simulated_device if isinstance(part, SimulatedTensor) else torch.device("cpu")


def _with_index(device: torch.device) -> torch.device:
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _result_device(
    operands: list[Any], kwargs: dict[str, Any], current: torch.device
) -> torch.device | None:
    """Returns where the result lies; None where an operation has nothing to do with CUDA."""
    named = kwargs.get("device") or next((o for o in operands if isinstance(o, torch.device)), None)
    simulated = [part for part in operands if isinstance(part, SimulatedTensor)]
    if named is not None:
        target = torch.device(named)
        if target.type == "cuda":
            return target if target.index is not None else current
        return target if simulated else None
    return simulated[0].simulated_device if simulated else None


def _stored(part: Any) -> Any:
    if isinstance(part, SimulatedTensor):
        return part.stored
    is_cuda = isinstance(part, torch.device) and part.type == "cuda"
    return torch.device("cpu") if is_cuda else part


def _simulated(part: Any, device: torch.device) -> Any:
    plain = isinstance(part, Tensor) and not isinstance(part, SimulatedTensor)
    return SimulatedTensor(part, device) if plain else part


def _changed_argument(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the argument that an operation writes to and returns; None where it makes one."""
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return args[place] if place < len(args) else kwargs.get(argument.name)
    return None


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8)


def _place() -> str:
    """Returns the file and line of the project's code that runs now."""
    for frame in reversed(traceback.extract_stack()):
        if "/site-packages/" not in frame.filename and "simulated_cuda" not in frame.filename:
            return f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
    return "an unknown place"
