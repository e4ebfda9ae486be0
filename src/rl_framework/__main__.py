"""`python -m rl_framework` is the command line `rl-framework`."""

from rl_framework.cli import main

if __name__ == "__main__":
    main()
