"""Alembic migrations. A landed migration is never edited: expand, then contract."""
