"""The probe: a ridge classifier in its dual and primal form."""
