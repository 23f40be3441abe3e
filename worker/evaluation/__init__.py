"""Evaluation of a leased group."""
