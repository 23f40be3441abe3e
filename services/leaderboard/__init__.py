"""Ranked results: filters, sort keys, pages, device models."""
