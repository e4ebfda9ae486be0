"""What stands between `OfflineAgent` and d3rlpy."""
