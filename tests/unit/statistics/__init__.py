"""Statistics against scipy, statsmodels and brute force."""
