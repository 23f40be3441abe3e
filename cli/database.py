"""The database itself, for the commands of operators on a machine that reaches it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.domain.errors import UnavailableError
from shared.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@contextmanager
def command_session(settings: Settings) -> Iterator["Session"]:
    """Yields the only session of a command, in one transaction that is committed at the end.

    Raises:
        UnavailableError: the database cannot be reached, or has not the newest schema.
    """
    # imported here: commands that use HTTP start without SQLAlchemy
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from shared.db.availability import cause_of, explain_unreachable
    from shared.db.session import make_engine, make_session_factory

    engine = make_engine(settings, pool_size=1)
    try:
        with make_session_factory(engine).begin() as session:
            yield session
    except OperationalError as error:
        raise UnavailableError(explain_unreachable(error)) from error
    except ProgrammingError as error:
        raise UnavailableError(f"{cause_of(error)}. Run `convsweep migrate` first.") from error
    finally:
        engine.dispose()
