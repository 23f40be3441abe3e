"""The only reader of the environment: every setting, its default, its check (CONVSWEEP_...)."""

import os
import tempfile
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.domain.errors import InvalidInputError

Seconds = Annotated[float, Field(gt=0, le=86_400)]
PerMinute = Annotated[int, Field(ge=0, le=1_000_000_000)]

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def _default_runtime_dir() -> Path:
    """Returns the user's own folder for files of running processes."""
    shared = os.environ.get("XDG_RUNTIME_DIR")
    if shared:
        return Path(shared) / "convsweep"
    return Path(tempfile.gettempdir()) / f"convsweep-{os.geteuid()}"


class Settings(BaseSettings):
    """Settings of every process. A value that does not fit stops the process with its name."""

    model_config = SettingsConfigDict(env_prefix="CONVSWEEP_", extra="ignore", frozen=True)

    database_url: str = Field(
        default="postgresql+psycopg2://localhost/convsweep", description="Where Postgres is."
    )
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/0", description="Where Redis or Valkey is."
    )
    database_password: SecretStr | None = Field(
        default=None, description="Password for a database URL that has none."
    )
    database_password_file: Path | None = Field(
        default=None, description="A file that holds that password."
    )
    broker_password: SecretStr | None = Field(
        default=None, description="Password for a broker URL that has none."
    )
    broker_password_file: Path | None = Field(
        default=None, description="A file that holds that password."
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
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = Field(
        default="",
        description="Path below which a reverse proxy serves the API, such as /proxy/8000.",
    )
    api_connections: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="Most database connections that the API opens."
    )
    api_answer_s: Seconds = Field(
        default=90.0, description="Request time limit; slower requests get 503."
    )
    api_clients: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1000,
        description="Most connections of clients, and never more than half of the process's files.",
    )
    api_processes: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Processes for previews, analyses and plots."
    )
    api_compute_s: Seconds = Field(
        default=60.0, description="Time limit of a preview, an analysis or a plot, with its wait."
    )
    api_streams_of_client: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=50, description="Most event streams of one client; one more is answered 429."
    )
    api_streams: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=200, description="Most event streams at once; one more is answered 503."
    )
    api_keys: Literal["required", "off"] = Field(
        default="required",
        description="Off is possible only where the API listens on the loopback address.",
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
    trusted_proxies: str = Field(
        default="",
        description="Addresses of reverse proxies whose X-Forwarded-For is believed, with commas "
        "between.",
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
    workers_per_device: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Workers that share a GPU; more than one measure no throughput."
    )
    runtime_dir: Path = Field(
        default_factory=_default_runtime_dir,
        description="Locks of devices, shared by this user's workers on this machine.",
    )
    memory_budget: Annotated[int, Field(ge=64 * 2**20)] | None = Field(
        default=None, description="Bytes for activations; default 4 GiB or half the device."
    )
    max_dataset_bytes: Annotated[int, Field(ge=2**20)] = Field(
        default=4 * 2**30,
        description="Limit of a dataset's size, unpacked; larger ones are refused.",
    )
    lease_s: Seconds = Field(default=60.0, description="How long a claim holds without renewal.")
    progress_deadline_s: Seconds = Field(
        default=600.0, description="Without progress for longer, a worker ends itself."
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
    alive_file: Path | None = Field(
        default=None, description="Worker and dispatcher touch it while they are well."
    )
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("api_keys")
    @classmethod
    def _off_on_loopback_alone(cls, keys: str, info: ValidationInfo) -> str:
        host = info.data.get("api_host")
        if keys == "off" and host not in LOOPBACK_NAMES:
            raise ValueError(
                f"cannot be off while CONVSWEEP_API_HOST is {host}: any user who reaches it "
                "could do anything. Set it to required and create a key with "
                "`convsweep key create`, or listen on 127.0.0.1"
            )
        return keys

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, proxies: str) -> str:
        for proxy in filter(None, proxies.split(",")):
            try:
                ip_network(proxy.strip())
            except ValueError as error:
                raise ValueError(
                    f"{proxy.strip()!r} is no address; one looks like 10.0.0.7 or 10.0.0.0/24"
                ) from error
        return proxies

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

    @field_validator("data_dir", "training_dir", "runtime_dir")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().resolve()

    @property
    def trainings(self) -> Path:
        """The folder of trainings' checkpoints and weights."""
        return self.training_dir or self.data_dir / "trainings"

    @field_validator("database_password_file", "broker_password_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            read_secret(path)
        return path

    @property
    def full_database_url(self) -> str:
        """The database's URL with its password, wherever that comes from; never to be logged."""
        password = _secret(self.database_password, self.database_password_file)
        return _with_password(self.database_url, password)

    @property
    def full_broker_url(self) -> str:
        """The broker's URL with its password, wherever that comes from; never to be logged."""
        password = _secret(self.broker_password, self.broker_password_file)
        return _with_password(self.broker_url, password)

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


def read_secret(path: Path) -> str:
    """Returns the one line that a file of a secret holds.

    Raises:
        ValueError: the file cannot be read, or holds nothing.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


def _secret(value: SecretStr | None, path: Path | None) -> str | None:
    if value is not None:
        return value.get_secret_value()
    return None if path is None else read_secret(path)


def _with_password(url: str, password: str | None) -> str:
    parts = urlsplit(url)
    if password is None or parts.password is not None or not parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


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
    values = settings.model_dump(exclude_none=True, exclude=own)
    names = {f"CONVSWEEP_{name.upper()}" for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return inherited | {f"CONVSWEEP_{name.upper()}": _plain(values[name]) for name in values}


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
