"""HTTP requests to one API: retries, and failures as the client's errors."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from convsweep.errors import (
    ApiError,
    ApiTimeoutError,
    ApiUnreachableError,
    InvalidRequestError,
    InvalidUrlError,
)

_EXAMPLE = "It looks like http://127.0.0.1:8000 or https://sweeps.example.org."
MAX_WAIT_S = 30.0  # for GET requests that are answered with Retry-After
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class Connection:
    """Sends requests to the API at ``url``, with an API key if there is one."""

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        self.url = _normalized(url)
        host = httpx.URL(self.url).host
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            trust_env=host not in LOOPBACK_NAMES,  # a proxy cannot reach this machine's loopback
        )

    def close(self) -> None:
        """Closes the sockets."""
        self._http.close()

    def get(self, path: str, params: Any = None) -> Any:
        """Returns the JSON of a GET; waits up to half a minute while the API says to retry.

        Raises:
            ApiError: the API refused.
            ApiUnreachableError: no API answered.
        """
        left_s = MAX_WAIT_S
        while (response := self._send("GET", path, params=params)).is_error:
            wait_s = _retry_after_s(response)
            if wait_s > left_s:
                break
            left_s -= wait_s
            time.sleep(wait_s)
        return _content(response)

    def post(self, path: str, json: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Returns the JSON that a POST is answered with; never retries.

        Raises:
            InvalidRequestError: ``json`` has a value that JSON cannot express.
            ApiError: the API refused.
            ApiUnreachableError: no API answered.
        """
        _check_json(json)
        return _content(self._send("POST", path, json=json, headers=headers))

    @contextmanager
    def stream(self, path: str, **request: Any) -> Iterator[httpx.Response]:
        """Yields the response of a GET whose body is read piece by piece.

        Raises:
            ApiError: the API refused.
            ApiUnreachableError: no API answered, or the connection was lost.
        """
        with self._translated(), self._http.stream("GET", path, **request) as response:
            if response.is_error:
                response.read()
                raise _refusal(response)
            yield response

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self._translated():
            return self._http.request(method, path, **request)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises failures of the transport as the client's errors."""
        try:
            yield
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise ApiTimeoutError(
                f"The API at {self.url} took too long to answer. A request that changes something "
                "may still take effect: check before you send it again."
            ) from error
        except httpx.TransportError as error:
            raise ApiUnreachableError(
                f"No API answers at {self.url} ({error}). Check the address; `convsweep up` starts "
                "an API on this machine."
            ) from error


def _normalized(url: str) -> str:
    """Returns the address below which the API's paths are: with a scheme, without ``/v1``.

    Raises:
        InvalidUrlError: it is no address of an API.
    """
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InvalidUrlError(f"{url!r} is no address: {error}. {_EXAMPLE}") from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment:
        raise InvalidUrlError(f"{url!r} is not the address of an API. {_EXAMPLE}")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def _check_json(value: Any, path: str = "") -> None:
    """Returns if JSON can express a request's body.

    Raises:
        InvalidRequestError: it cannot; the message names the value and its place.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_json(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_json(inner, f"{path}[{number}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequestError(f"{path} is {value}: JSON has only finite numbers.")
    elif value is not None and not isinstance(value, str | int):
        raise InvalidRequestError(f"{path} is a {type(value).__name__}: JSON has no such values.")


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return max(1, int(text)) if text.isdecimal() else math.inf


def _content(response: httpx.Response) -> Any:
    if response.is_error:
        raise _refusal(response)
    try:
        return response.json()
    except ValueError as error:
        raise _unexpected(response, "without JSON") from error


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
        return ApiError(problem["detail"], status=response.status_code, code=problem["code"])
    except (ValueError, KeyError, TypeError):
        return _unexpected(response, "without a reason")


def _unexpected(response: httpx.Response, what: str) -> ApiError:
    return ApiError(
        f"The server at {response.url.host} answered {response.status_code} {what}. "
        "Check that the address is that of a convsweep API.",
        status=response.status_code,
        code="unexpected_answer",
    )
