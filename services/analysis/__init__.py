"""What the results say: correlations, effects, importance, comparisons."""
