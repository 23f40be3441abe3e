"""Every error that the client raises; ``ClientError`` is their base class."""


class ClientError(Exception):
    """Base class of the client's errors; ``message`` says what to do next."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ApiError(ClientError):
    """The API refused the request.

    Attributes:
        message: the API's explanation.
        status: the HTTP status, such as 404.
        code: the stable, machine-readable reason, such as ``sweep_not_found``.
    """

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ApiUnreachableError(ClientError):
    """No API answers at the address, or the connection was lost."""


class ApiTimeoutError(ApiUnreachableError):
    """The API took too long to answer; a request that changes something may still take effect."""


class InvalidFilterError(ClientError, ValueError):
    """A filter is not written as ``NAME=VALUES``."""


class InvalidRequestError(ClientError, ValueError):
    """A request has a value that JSON cannot express, such as infinity; nothing was sent."""


class InvalidUrlError(ClientError, ValueError):
    """The address of the API is not one; the message says what it should look like."""


class PandasMissingError(ClientError):
    """pandas is not installed; the message names the command that installs it."""


class OutputFileError(ClientError):
    """A file that the user named for output cannot be written."""
