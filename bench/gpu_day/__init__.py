"""The first day with a GPU: everything that needs one, checked and measured by one command."""
