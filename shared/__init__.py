"""Facts that both sides of the queue know: spaces, protocols, results, states, errors, tables."""
