"""Datasets: files, public sets, bundled digits."""
