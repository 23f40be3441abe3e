"""The options of every command that reads a sweep's results, declared once."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature
from typing import Any, TypeVar

from cli.context import (
    DeviceOption,
    SweepArgument,
    UrlOption,
    WeightOption,
    WhereOption,
    make_client,
    resolve_sweep,
)
from convsweep import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResultQuery:
    """The results that a command reads: a sweep, filters and the weight of its fitness."""

    sweep: str
    where: list[str]
    fitness_weight: float | None
    url: str | None

    @contextmanager
    def open(self) -> Iterator[tuple[Client, int]]:
        """Yields a client and the sweep's id."""
        with make_client(self.url) as client:
            yield client, resolve_sweep(client, self.sweep)

    @property
    def options(self) -> dict[str, Any]:
        """Filters and fitness weight, as methods of ``Client`` take them."""
        return {"where": self.where, "fitness_weight": self.fitness_weight}

    def fetch(self, ask: Callable[..., T], /, *arguments: Any, **options: Any) -> T:
        """Calls ``ask``, a method of ``Client``, for the sweep with these options."""
        with self.open() as (client, sweep_id):
            return ask(client, sweep_id, *arguments, **self.options, **options)


_SHARED: dict[str, tuple[Any, Any]] = {
    "where": (WhereOption, []),
    "device": (DeviceOption, None),
    "fitness_weight": (WeightOption, None),
    "url": (UrlOption, None),
}


def reads_results(command: Callable[..., None]) -> Callable[..., None]:
    """Passes a command the argument SWEEP and the shared options as a ``ResultQuery``.

    Typer reads the signature of a command, so the returned function declares these parameters.
    """

    @wraps(command)
    def run(*, sweep: str, where: list[str], device: str | None, **options: Any) -> None:
        filters = [*where, *((f"device={device}",) if device else ())]
        weight, url = options.pop("fitness_weight"), options.pop("url")
        command(ResultQuery(sweep, filters, weight, url), **options)

    own = list(inspect.signature(command).parameters.values())[1:]
    keyword = Parameter.KEYWORD_ONLY
    shared = [
        Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    ]
    parameters = [
        Parameter("sweep", keyword, annotation=SweepArgument),
        *(parameter.replace(kind=keyword) for parameter in own),
        *shared,
    ]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
