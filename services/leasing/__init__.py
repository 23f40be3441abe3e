"""Leases: claim, renew, complete, release and fail groups, trainings and devices."""
