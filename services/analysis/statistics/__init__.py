"""Statistics on numpy arrays: pure numerics that know no database and no sweep.

Formulas and sources are in docs/protocol.md. Each function imports scipy itself, because the API
starts without it.
"""
