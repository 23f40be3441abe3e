"""The backlog of hints, and the end of expired leases."""
