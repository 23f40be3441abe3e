"""Results of a sweep as files, streamed."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from api.computing.places import Places
from api.deps import FitnessWeight, RowFilters, SweepId
from api.openapi.document import raises, sends
from api.openapi.filter_parameters import FILTER_PARAMETERS
from services.exports.export import export_rows
from shared.domain.errors import BusyError
from shared.domain.results.choices import ExportFormat, ExportRows
from shared.domain.results.ranking import FITNESS_WEIGHT

router = APIRouter(prefix="/v1", tags=["results"])

MEDIA_TYPES = {
    ExportFormat.CSV: "text/csv",
    ExportFormat.JSONL: "application/jsonl",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}


async def take_place(request: Request) -> AsyncIterator[None]:
    """Reserves one of the places for exports until the answer has been sent.

    Raises:
        BusyError: this client, or all clients together, have too many exports.
    """
    exports: Places = request.app.state.exports
    with exports.take(request.scope["convsweep.client"]):
        yield


@router.get(
    "/sweeps/{sweep_id}/export.{form}",
    response_class=StreamingResponse,
    responses=sends(*MEDIA_TYPES.values()) | raises(BusyError),
    dependencies=[Depends(take_place)],
    openapi_extra=FILTER_PARAMETERS,
)
def export(
    sweep_id: SweepId,
    form: Annotated[ExportFormat, Path(description="What the file is.")],
    request: Request,
    filters: RowFilters,
    rows: Annotated[
        ExportRows, Query(description="What a row is about.")
    ] = ExportRows.ARCHITECTURES,
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
) -> StreamingResponse:
    """Streams the rows that pass the filters, those of every state without any."""
    chunks = export_rows(
        request.app.state.reading_factory,
        sweep_id,
        filters,
        form=form,
        rows=rows,
        fitness_weight=fitness_weight,
    )
    name = (
        f"sweep-{sweep_id}.{form}"
        if rows is ExportRows.ARCHITECTURES
        else (f"sweep-{sweep_id}-{rows}.{form}")
    )
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks, media_type=MEDIA_TYPES[form], headers=headers)
