"""What a package that adds to rl_framework looks like."""
