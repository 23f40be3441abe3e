"""The HTTP API. Status codes, headers and pages; no SQL, no rules, no torch."""
