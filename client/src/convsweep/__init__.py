"""Python client of the convsweep HTTP API.

    from convsweep import ApiError, Client

    with Client("http://127.0.0.1:8000") as client:
        sweep = client.create_sweep({"preset": "quick"})
        for streamed in client.watch(sweep["id"]):
            print(streamed.event)
        frame = client.leaderboard(sweep["id"]).to_pandas()

Accuracies are fractions, throughput is images per second, times are ISO 8601 in UTC. Answers are
dictionaries with the fields that the API's description at ``/docs`` lists. Every error that this
package raises is a ``ClientError``.
"""

from convsweep.answers import CreatedSweep, Layer, Preview, RankedNetwork, Sweep, WorkerState
from convsweep.client import Client
from convsweep.errors import (
    ApiError,
    ApiTimeoutError,
    ApiUnreachableError,
    ClientError,
    InvalidFilterError,
    InvalidRequestError,
    InvalidUrlError,
    OutputFileError,
    PandasMissingError,
)
from convsweep.events import (
    EndEvent,
    Event,
    LeaderEvent,
    ProgressEvent,
    StreamedEvent,
    UnavailableEvent,
    WorkerEvent,
)
from convsweep.leaderboard import Leaderboard

__all__ = [
    "ApiError",
    "ApiTimeoutError",
    "ApiUnreachableError",
    "Client",
    "ClientError",
    "CreatedSweep",
    "EndEvent",
    "Event",
    "InvalidFilterError",
    "InvalidRequestError",
    "InvalidUrlError",
    "Layer",
    "LeaderEvent",
    "Leaderboard",
    "OutputFileError",
    "PandasMissingError",
    "Preview",
    "ProgressEvent",
    "RankedNetwork",
    "StreamedEvent",
    "Sweep",
    "UnavailableEvent",
    "WorkerEvent",
    "WorkerState",
]
