"""Health, readiness and workers."""

from fastapi import APIRouter

from api.deps import DbSession
from api.schemas import Health, WorkerOut
from services.workers import check_database, list_workers

router = APIRouter(tags=["system"])


@router.get("/healthz")
def healthz() -> Health:
    """Says that the process answers."""
    return Health()


@router.get("/readyz")
def readyz(session: DbSession) -> Health:
    """Says that the database answers too; 503 while it does not."""
    check_database(session)
    return Health()


@router.get("/v1/workers")
def show_workers(session: DbSession) -> list[WorkerOut]:
    """Lists the workers seen lately and what keeps them from working, if anything does."""
    return [WorkerOut.model_validate(row, from_attributes=True) for row in list_workers(session)]
