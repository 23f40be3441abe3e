"""How the types of Python are stored in every table."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import BigInteger, DateTime, Float, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012
        str: Text,
        int: BigInteger,
        float: Float,
        bytes: LargeBinary,
        uuid.UUID: UUID(as_uuid=True),
        dt.datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
    }
