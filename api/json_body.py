"""Bodies of requests: JSON of the strict kind, and a clear answer to anything else."""

import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared.domain.errors import InvalidInputError, UnsupportedBodyError
from shared.strict_json import StrictJsonError, describe_syntax_error, parse_json


class JsonRoute(APIRoute):
    """A route whose body, if it has one, is read here; FastAPI then finds the value ready."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_json(request: Request) -> Response:
            try:
                body = await request.body()
            except ClientDisconnect as error:
                raise HTTPException(HTTPStatus.BAD_REQUEST, "The body ended early.") from error
            if body:
                _check_content_type(request.headers.get("content-type"))
                request._json = _parse(body)
            return await handle(request)

        return handle_json


def _check_content_type(content_type: str | None) -> None:
    if content_type is None:
        raise UnsupportedBodyError("Send the body with the header Content-Type: application/json.")
    kind = content_type.partition(";")[0].strip().lower()
    is_json = kind.endswith(("/json", "+json")) and kind.startswith("application/")
    if not is_json:
        raise UnsupportedBodyError(
            f"The body must be JSON, not {kind[:80]!r}: send it with the header "
            "Content-Type: application/json."
        )


def _parse(body: bytes) -> Any:
    try:
        return parse_json(body)
    except json.JSONDecodeError as error:
        reason = f"not JSON: {describe_syntax_error(error)}"
    except (StrictJsonError, UnicodeDecodeError) as error:
        reason = str(error)
    raise InvalidInputError(f"body: {reason}", field="body")
