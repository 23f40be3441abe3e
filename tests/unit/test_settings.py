"""Settings: safe defaults, one form of URL, and bad values that say their variable's name."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from shared.domain.errors import InvalidInputError
from shared.settings import Settings, child_environment, get_settings


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.parametrize("proxies", ["proxy.example.org", "10.0.0.1,", "10.0.0.1/8", "*"])
def test_trusted_proxies_are_addresses(proxies: str) -> None:
    if proxies == "10.0.0.1,":
        assert Settings(trusted_proxies=proxies).trusted_proxies == proxies
    else:
        with pytest.raises(ValidationError, match="is no address"):
            Settings(trusted_proxies=proxies)


def test_defaults_stay_on_this_machine() -> None:
    settings = get_settings()
    assert settings.api_host == "127.0.0.1"
    assert urlsplit(settings.database_url).hostname == "localhost"
    assert urlsplit(settings.broker_url).hostname == "127.0.0.1"
    assert settings.data_dir == Path.home() / ".convsweep"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "sqlite:///x.db"),
        ("DATABASE_URL", "postgresql+asyncpg://localhost/x"),
        ("BROKER_URL", "amqp://localhost"),
        ("API_PORT", "70000"),
        ("API_PORT", "http"),
        ("API_CONNECTIONS", "0"),
        ("API_KEYS", "maybe"),
        ("READS_PER_MINUTE", "-1"),
        ("WRITES_PER_MINUTE", "many"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://a.example/path"),
        ("CORS_ORIGINS", "https://a.example,b.example"),
        ("METRICS_PORT", "70000"),
        ("DEVICE", "tpu"),
        ("DEVICE", "cuda:x"),
        ("MEMORY_BUDGET", "12"),
        ("LEASE_S", "0"),
        ("LEASE_S", "-1"),
        ("LEASE_S", "nan"),
        ("LEASE_S", "inf"),
        ("LEASE_S", "90000"),
        ("MAX_ATTEMPTS", "0"),
        ("CLAIM_JOBS", "0"),
        ("BACKLOG", "0"),
        ("BACKLOG", "1.5"),
        ("DISPATCH_INTERVAL_S", "soon"),
        ("RESEND_S", ""),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_bad_value_is_refused_by_the_name_of_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"CONVSWEEP_{variable}"
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError) as caught:
        get_settings()
    assert caught.value.field == name
    assert caught.value.message.startswith(f"{name}: ")


@pytest.mark.parametrize(
    "url",
    ["postgres://u:p@h:1/d", "postgresql://u:p@h:1/d", "postgresql+psycopg2://u:p@h:1/d"],
)
def test_every_usual_postgres_url_is_understood(url: str) -> None:
    assert Settings(database_url=url).database_url == "postgresql+psycopg2://u:p@h:1/d"


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h:1/0", "redis+socket:///x.sock"])
def test_every_usual_broker_url_is_understood(url: str) -> None:
    assert Settings(broker_url=url).broker_url == url


def test_data_dir_is_absolute_and_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSWEEP_DATA_DIR", "~/sweeps")
    assert get_settings().data_dir == Path.home() / "sweeps"
    assert Settings(data_dir=Path("x")).data_dir == Path.cwd() / "x"


def test_settings_cannot_be_changed_after_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        get_settings().backlog = 1  # type: ignore[misc]


def test_children_read_the_settings_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Settings(
        database_url="postgresql://h/d", backlog=7, lease_s=1.5, device="cpu", memory_budget=2**30
    )
    for name, value in child_environment(parent).items():
        monkeypatch.setenv(name, value)
    assert get_settings() == parent


def test_keys_are_required_by_default() -> None:
    assert get_settings().api_keys == "required"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "sweeps.example.org"])
def test_keys_cannot_be_off_where_others_reach_the_api(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSWEEP_API_HOST", host)
    monkeypatch.setenv("CONVSWEEP_API_KEYS", "off")
    with pytest.raises(InvalidInputError, match="convsweep key create") as caught:
        get_settings()
    assert caught.value.field == "CONVSWEEP_API_KEYS"
    monkeypatch.setenv("CONVSWEEP_API_KEYS", "required")
    assert get_settings().api_host == host


def test_the_users_key_is_shown_nowhere_and_handed_to_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVSWEEP_API_KEY", "csw_of_mine")
    monkeypatch.setenv("CONVSWEEP_API_KEY_FILE", "/of/mine")
    settings = get_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "csw_of_mine"
    assert "of_mine" not in f"{settings!r} {settings.model_dump_json()}"
    environment = child_environment(settings)
    assert {"CONVSWEEP_API_KEY", "CONVSWEEP_API_KEY_FILE"}.isdisjoint(environment)


def test_origins_are_listed_with_commas() -> None:
    settings = Settings(cors_origins="https://a.example,http://localhost:5173")
    assert settings.allowed_origins == {"https://a.example", "http://localhost:5173"}
    assert Settings().allowed_origins == frozenset()


def test_passwords_come_from_files_and_are_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database").write_text("p@ss/w:rd\n")
    (tmp_path / "broker").write_text("geheim\n")
    monkeypatch.setenv("CONVSWEEP_DATABASE_URL", "postgresql://me@h:5/d?sslmode=require")
    monkeypatch.setenv("CONVSWEEP_DATABASE_PASSWORD_FILE", str(tmp_path / "database"))
    monkeypatch.setenv("CONVSWEEP_BROKER_URL", "rediss://h:6380/0?ssl_cert_reqs=required")
    monkeypatch.setenv("CONVSWEEP_BROKER_PASSWORD_FILE", str(tmp_path / "broker"))
    settings = get_settings()
    wanted = "postgresql+psycopg2://me:p%40ss%2Fw%3Ard@h:5/d?sslmode=require"
    assert settings.full_database_url == wanted
    assert settings.full_broker_url == "rediss://:geheim@h:6380/0?ssl_cert_reqs=required"
    assert (
        "geheim" not in f"{settings!r} {settings.model_dump_json()} {child_environment(settings)}"
    )


def test_a_password_in_the_url_stays(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    settings = Settings(
        database_url="postgresql://u:p@h/d", database_password_file=tmp_path / "other"
    )
    assert settings.full_database_url == "postgresql+psycopg2://u:p@h/d"


def test_passwords_reach_child_processes_as_they_are() -> None:
    settings = Settings(broker_url="redis://h:1/0", broker_password=SecretStr("geheim"))
    assert child_environment(settings)["CONVSWEEP_BROKER_PASSWORD"] == "geheim"


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_secret_without_content_is_refused_by_the_name_of_its_variable(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    monkeypatch.setenv("CONVSWEEP_DATABASE_PASSWORD_FILE", str(tmp_path / "secret"))
    with pytest.raises(InvalidInputError, match=str(tmp_path / "secret")) as caught:
        get_settings()
    assert caught.value.field == "CONVSWEEP_DATABASE_PASSWORD_FILE"
