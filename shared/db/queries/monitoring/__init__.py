"""SQL about workers and totals of the cluster."""
