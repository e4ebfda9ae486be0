"""Between our interface and the imitation library."""
