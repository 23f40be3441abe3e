"""No-op trials through Optuna's relational storage: what a user of it waits per trial."""

import time
import warnings

from sqlalchemy import create_engine, make_url, text

from shared.settings import Settings

FIELDS = {"kernel_size": (3, 5, 7, 9), "stride": (1, 2, 3), "dilation": (1, 2, 3)}
LAYERS = 3


def measure_optuna(settings: Settings, trials: int) -> dict[str, float | str]:
    """Returns trials per second of a random search over the published space on this Postgres.

    Nine categorical parameters per trial, an objective that returns at once, a database of its
    own. Optuna is as it comes; its storage is asked as its documentation says. The rates of both
    halves say whether it slows down as trials add up, and so whom a sample of them favours.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage(_new_database(settings)),
        sampler=optuna.samplers.RandomSampler(seed=0),
        direction="maximize",
    )
    halves = [trials // 2, trials - trials // 2]
    seconds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for half in halves:
            started = time.perf_counter()
            study.optimize(_suggest_and_return, n_trials=half)
            seconds.append(time.perf_counter() - started)
    return {
        "trials": trials,
        "trials_per_s": trials / sum(seconds),
        "first_half_per_s": halves[0] / seconds[0],
        "second_half_per_s": halves[1] / seconds[1],
        "version": optuna.__version__,
    }


def _suggest_and_return(trial: "optuna.Trial") -> float:  # type: ignore[name-defined] # noqa: F821
    for layer in range(LAYERS):
        for field, choices in FIELDS.items():
            trial.suggest_categorical(f"{field}_{layer}", choices)
    return 0.5


def _new_database(settings: Settings) -> str:
    engine = create_engine(settings.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE optuna"))
    engine.dispose()
    url = make_url(settings.database_url).set(database="optuna")
    return url.render_as_string(hide_password=False)
