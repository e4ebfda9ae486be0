"""Environments that are torch programs: many at once, on any device, without a step through the host."""
