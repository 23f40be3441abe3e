"""The only reader of the environment: every setting, its default, its check (CONVSWEEP_...)."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import InvalidInputError

Seconds = Annotated[float, Field(gt=0, le=86_400)]
PerMinute = Annotated[int, Field(ge=0, le=1_000_000_000)]

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """Settings of every process. A value that does not fit stops the process with its name."""

    model_config = SettingsConfigDict(env_prefix="CONVSWEEP_", extra="ignore", frozen=True)

    database_url: str = Field(
        default="postgresql+psycopg2://localhost/convsweep", description="Where Postgres is."
    )
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0", description="Where Redis or Valkey is."
    )
    data_dir: Path = Field(
        default=Path("~/.convsweep"), description="Datasets, and the embedded cluster's files."
    )
    training_dir: Path | None = Field(
        default=None,
        description="Checkpoints and weights of trainings; a folder that all workers and the API "
        "share. Default: `trainings` in the data folder.",
    )
    api_url: str | None = Field(default=None, description="The API that the command line talks to.")
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_connections: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="Most database connections that the API opens."
    )
    api_answer_s: Seconds = Field(
        default=90.0, description="A request without an answer for so long is answered 503."
    )
    api_streams: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=200, description="Most event streams at once; one more is answered 503."
    )
    api_keys: Literal["required", "off"] = Field(
        default="required", description="Off only where the API listens on this machine alone."
    )
    reads_per_minute: PerMinute = Field(
        default=6000, description="Most reading requests of one key; 0 for any number."
    )
    writes_per_minute: PerMinute = Field(
        default=120, description="Most changing requests of one key; 0 for any number."
    )
    failures_per_minute: PerMinute = Field(
        default=60, description="Most requests of one address without a good key; 0 for any number."
    )
    cors_origins: str = Field(
        default="", description="Origins of web pages that may use the API, with commas between."
    )
    api_key: SecretStr | None = Field(
        default=None, description="The key that the command line sends."
    )
    api_key_file: Path | None = Field(default=None, description="A file that holds that key.")
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=0, description="Where a worker serves its metrics; 0 for nowhere."
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    memory_budget: Annotated[int, Field(ge=64 * 2**20)] | None = Field(
        default=None, description="Bytes for activations; default 4 GiB or half the device."
    )
    lease_s: Seconds = Field(default=60.0, description="How long a claim holds without renewal.")
    progress_deadline_s: Seconds = Field(
        default=600.0, description="A group without progress for so long ends its worker."
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    claim_jobs: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=64, description="Most jobs that one claim takes."
    )
    claim_s: Seconds = Field(
        default=60.0, description="A claim takes fewer jobs where they would take longer than this."
    )
    backlog: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=32, description="Hints that the dispatcher keeps waiting in the queue."
    )
    dispatch_interval_s: Seconds = 0.25
    resend_s: Seconds = Field(
        default=15.0, description="A hint without a claim is sent again after this."
    )
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("api_keys")
    @classmethod
    def _off_on_loopback_alone(cls, keys: str, info: ValidationInfo) -> str:
        host = info.data.get("api_host")
        if keys == "off" and host not in LOOPBACK_NAMES:
            raise ValueError(
                f"cannot be off while CONVSWEEP_API_HOST is {host}: whoever reaches it could do "
                "anything. Set it to required and make a key with `convsweep key create`, or "
                "listen on 127.0.0.1"
            )
        return keys

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: str) -> str:
        for origin in filter(None, origins.split(",")):
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin!r} is no origin; one looks like https://example.org")
        return origins

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins of other web pages that may use the API."""
        return frozenset(filter(None, self.cors_origins.split(",")))

    @field_validator("data_dir", "training_dir")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().resolve()

    @property
    def trainings(self) -> Path:
        """The folder of trainings' checkpoints and weights."""
        return self.training_dir or self.data_dir / "trainings"

    @field_validator("database_url")
    @classmethod
    def _driver_named(cls, url: str) -> str:
        for scheme in ("postgres://", "postgresql://"):
            if url.startswith(scheme):
                return "postgresql+psycopg2://" + url.removeprefix(scheme)
        if not url.startswith("postgresql+psycopg2://"):
            raise ValueError("must start with postgresql://")
        return url

    @field_validator("broker_url")
    @classmethod
    def _broker_known(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("must start with redis://, rediss:// or redis+socket://")
        return url


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Returns the settings of this process, read once.

    Raises:
        InvalidInputError: a variable holds a value that does not fit; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "CONVSWEEP_" + str(first["loc"][0]).upper()
        raise InvalidInputError(f"{name}: {first['msg']}", field=name) from error


def child_environment(settings: Settings) -> dict[str, str]:
    """Returns this process's environment with ``settings`` in it, for processes it starts.

    The user's own key is left out: no process of the cluster needs it.
    """
    own = {"api_key", "api_key_file"}
    values = settings.model_dump(mode="json", exclude_none=True, exclude=own)
    inherited = dict(os.environ)
    for name in own:
        inherited.pop(f"CONVSWEEP_{name.upper()}", None)
    return inherited | {f"CONVSWEEP_{name.upper()}": str(value) for name, value in values.items()}
