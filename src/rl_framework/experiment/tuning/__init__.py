"""Searching for parameters: trials that are runs, in an Optuna study that survives its processes."""
