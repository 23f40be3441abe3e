"""Facts of the domain: spaces, architectures, protocols, recipes, measurements, states."""
