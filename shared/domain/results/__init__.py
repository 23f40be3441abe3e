"""Results of sweeps as users read them: columns, choices, ranking and selection."""
