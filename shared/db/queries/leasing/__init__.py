"""SQL about leases of groups, trainings and devices."""
