"""Worlds in which several groups of agents act, each with a policy of its own."""
