"""Promises that need no IO."""
