"""Domain errors as RFC 9457 problem details, each with its status and stable code."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.db.availability import DATABASE_UNAVAILABLE, log_unavailable
from shared.domain import errors

STATUS_BY_ERROR: dict[type[errors.ConvsweepError], HTTPStatus] = {
    errors.ConvsweepError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownFilterError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidFilterError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidPageTokenError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsupportedBodyError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.TooLargeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.SweepNotFoundError: HTTPStatus.NOT_FOUND,
    errors.JobNotFoundError: HTTPStatus.NOT_FOUND,
    errors.TrainingNotFoundError: HTTPStatus.NOT_FOUND,
    errors.WeightsMissingError: HTTPStatus.NOT_FOUND,
    errors.KeyNotFoundError: HTTPStatus.NOT_FOUND,
    errors.UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.KeyMissingError: HTTPStatus.UNAUTHORIZED,
    errors.KeyInvalidError: HTTPStatus.UNAUTHORIZED,
    errors.KeyExpiredError: HTTPStatus.UNAUTHORIZED,
    errors.KeyRevokedError: HTTPStatus.UNAUTHORIZED,
    errors.ScopeMissingError: HTTPStatus.FORBIDDEN,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.IllegalTransitionError: HTTPStatus.CONFLICT,
    errors.IdempotencyKeyReusedError: HTTPStatus.CONFLICT,
    errors.NoResultsError: HTTPStatus.CONFLICT,
    errors.NotComparableError: HTTPStatus.CONFLICT,
    errors.StaleLeaseError: HTTPStatus.CONFLICT,
    errors.DatasetError: HTTPStatus.CONFLICT,
    errors.DatasetMissingError: HTTPStatus.CONFLICT,
    errors.DatasetCorruptError: HTTPStatus.CONFLICT,
    errors.DatasetTooSmallError: HTTPStatus.CONFLICT,
    errors.DatasetMismatchError: HTTPStatus.CONFLICT,
    errors.EngineError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NonFiniteError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.CheckpointError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.DevicePoisonedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.DeviceUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
HEADERS_BY_STATUS: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "5"},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "2"},
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="convsweep"'},
}
DATABASE_UNAVAILABLE_MESSAGE = "The database is unavailable or busy; try again."
MAX_FIELDS = 20  # a longer list would not help

log = structlog.get_logger(__name__)


def problem(
    status: HTTPStatus, code: str, detail: str, fields: list[dict[str, str]] | None = None
) -> JSONResponse:
    """Returns an ``application/problem+json`` answer; ``fields`` says what is wrong where.

    It carries the request's id, which the logs have too.
    """
    body: dict[str, Any] = {
        "type": f"urn:convsweep:problem:{code}",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
    }
    if request_id := structlog.contextvars.get_contextvars().get("request_id"):
        body["request_id"] = request_id
    if fields:
        body["errors"] = fields
    headers = HEADERS_BY_STATUS.get(status)
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def domain_problem(error: errors.ConvsweepError) -> JSONResponse:
    """Returns the answer to a domain error."""
    fields = [{"field": error.field, "message": error.message}] if error.field else None
    return problem(STATUS_BY_ERROR[type(error)], error.code, error.message, fields)


def database_problem(error: Exception) -> JSONResponse:
    """Returns the answer to a request that the database did not serve, and logs why."""
    log_unavailable(error)
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        DATABASE_UNAVAILABLE_MESSAGE,
    )


def _domain_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.ConvsweepError)
    return domain_problem(error)


def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [
        {
            "field": ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]),
            "message": item["msg"].removeprefix("Value error, "),
        }
        for item in error.errors()[:MAX_FIELDS]
    ]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in fields[:5])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", detail, fields)


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    answer = problem(status, status.name.lower(), str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _database_unavailable(_: Request, error: Exception) -> JSONResponse:
    return database_problem(error)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error, **request.path_params)
    answer = problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong on the server."
    )
    # only this answer leaves by a way that gives it no id
    answer.headers["X-Request-ID"] = structlog.contextvars.get_contextvars()["request_id"]
    return answer


def register_error_handlers(app: FastAPI) -> None:
    """Makes ``app`` answer every error as problem details, without internals."""
    app.add_exception_handler(errors.ConvsweepError, _domain_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    for unavailable in DATABASE_UNAVAILABLE:
        app.add_exception_handler(unavailable, _database_unavailable)
    app.add_exception_handler(Exception, _unexpected)
