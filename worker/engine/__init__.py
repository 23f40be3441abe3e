"""Tensors only: datasets, layers, the tree of a group, the ridge probe and timing.

Nothing here knows a database, a queue, settings or the environment.
"""
