"""Promises about real PostgreSQL and real Valkey."""
