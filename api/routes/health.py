"""Health and readiness, which need no key."""

from fastapi import APIRouter

from api.deps import ReadingSession
from api.schemas.workers import Health
from services.monitoring.health import check_database

router = APIRouter(tags=["system"])


@router.get("/healthz")
def healthz() -> Health:
    """Says that the process answers."""
    return Health()


@router.get("/readyz")
def readyz(session: ReadingSession) -> Health:
    """Says that the database answers too; 503 while it does not."""
    check_database(session)
    return Health()
