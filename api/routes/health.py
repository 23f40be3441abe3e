"""Health and readiness, which need no key and wait for no other request."""

from fastapi import APIRouter, Request

from api.readiness import Readiness
from api.schemas.workers import Health

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> Health:
    """Answers if the process runs."""
    return Health()


@router.get("/readyz")
async def readyz(request: Request) -> Health:
    """Answers if the database answers, too; 503 while it does not."""
    readiness: Readiness = request.app.state.readiness
    await readiness.check()
    return Health()
