"""Numbers that identify rows."""

MAX_ID = 2**63 - 1  # the largest bigint of Postgres
