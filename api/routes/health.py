"""Health and readiness, which need no key."""

from fastapi import APIRouter

from api.deps import ReadingSession
from api.schemas.workers import Health
from services.monitoring.health import check_database

router = APIRouter(tags=["system"])


@router.get("/healthz")
def healthz() -> Health:
    """Answers if the process runs."""
    return Health()


@router.get("/readyz")
def readyz(session: ReadingSession) -> Health:
    """Answers if the database answers, too; 503 while it does not."""
    check_database(session)
    return Health()
