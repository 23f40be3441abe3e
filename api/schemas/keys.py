"""Bodies of requests and answers about API keys."""

import datetime as dt
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.access.keys import MAX_LIFETIME_DAYS
from shared.domain.access import KeyScope
from shared.domain.names import Name


class KeyIn(BaseModel):
    """The purpose, scope and lifetime of a new key."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "notebook", "scope": "read", "lifetime_days": 90},
                {"name": "pipeline", "scope": "write"},
            ]
        },
    )

    name: Name
    scope: KeyScope
    lifetime_days: (
        Annotated[float, Field(gt=0, le=MAX_LIFETIME_DAYS, allow_inf_nan=False)] | None
    ) = Field(default=None, description="Valid until revoked if left out.")


class KeyOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    prefix: str = Field(description="The middle part of the key, by which logs name it.")
    name: str
    scope: KeyScope
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None = Field(description="To the minute.")


class KeyCreatedOut(KeyOut):
    key: str = Field(description="The key itself; no later answer contains it.")
