"""Previews, analyses and plots in processes of their own."""
