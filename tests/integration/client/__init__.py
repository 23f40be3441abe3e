"""The Python client: its package, its types, its downloads and its errors."""
