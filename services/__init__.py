"""Use cases: what the product does, in the domain's words. Callers commit."""
