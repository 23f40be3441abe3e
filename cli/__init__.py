"""The ``convsweep`` command: talks HTTP to an API, and runs an embedded cluster."""
