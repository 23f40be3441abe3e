"""The dispatcher process: sends hints and ends expired leases."""
