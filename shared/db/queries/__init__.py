"""All SQL of the project, one module per noun. Decides nothing and commits nothing."""
