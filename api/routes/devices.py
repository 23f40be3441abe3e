"""``/v1/sweeps/{id}``: how devices compare, bridges between them, and calibrated throughputs."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.computing import tasks
from api.computing.pool import HEAVY, Computations
from api.deps import DbSession, SweepId
from api.json_body import JsonRoute
from api.openapi.document import raises
from api.schemas.devices import BridgeIn, BridgeOut, CalibrationIn, CalibrationOut, DevicesOut
from services.calibration.bridges import build_bridge
from services.calibration.calibrated import calibrate
from shared.domain.errors import ConflictError, IllegalTransitionError
from shared.domain.reference_set import VERSION

router = APIRouter(prefix="/v1/sweeps/{sweep_id}", tags=["devices"], route_class=JsonRoute)

ReferenceVersion = Annotated[int, Query(ge=1, description="Version of the reference networks.")]


@router.get("/analysis/devices", response_model=DevicesOut, responses=raises(*HEAVY))
async def devices(
    sweep_id: SweepId, computing: Computations, reference_version: ReferenceVersion = VERSION
) -> Response:
    """Compares the devices of a sweep: references over time, drift, units, and other models."""
    return await computing.json(tasks.devices, sweep_id, reference_version)


@router.post("/bridges", responses=raises(IllegalTransitionError, ConflictError))
def bridge(sweep_id: SweepId, body: BridgeIn, session: DbSession) -> BridgeOut:
    """Asks device models to time the same random networks, so that they can be compared.

    Results stay and keep their rank meanwhile; a completed sweep runs again. A repeated request
    asks for nothing twice.
    """
    found = build_bridge(session, sweep_id, body.devices, share=body.share, seed=body.seed)
    return BridgeOut.model_validate(found)


@router.post("/calibrations")
def calibrated(sweep_id: SweepId, body: CalibrationIn, session: DbSession) -> CalibrationOut:
    """Computes the throughputs of all timed networks on a device model.

    Timings of the model are corrected for the speeds of its units; the others are predicted, with
    90 % intervals. Views show the result under `device=` with the answer's `scale`.
    """
    found = calibrate(
        session,
        sweep_id,
        body.device,
        reference_version=body.reference_version,
        seed=body.seed,
    )
    return CalibrationOut.model_validate(found)
