"""The database: tables, sessions, and under queries/ all SQL of the project."""
