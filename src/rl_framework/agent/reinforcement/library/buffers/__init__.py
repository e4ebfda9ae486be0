"""Buffers that leave out the rows in which nobody acted."""
