"""Networks that have a name."""
