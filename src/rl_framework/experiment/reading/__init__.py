"""From files and overrides to plain data that knows where it was written."""
