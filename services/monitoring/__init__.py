"""Workers and totals of the cluster."""
