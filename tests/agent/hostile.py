"""What the tests of hostile bundles share."""

import time

import pytest

from rl_framework import BundleError, load_agent


def setting(*keys_and_value):
    """A change of one value in the configuration."""
    *keys, last, value = keys_and_value

    def change(data):
        for key in keys:
            data = data.setdefault(key, {})
        data[last] = value

    return change


# What a hostile file can ask for takes hours or terabytes; an honest machine under load may take a second.
PATIENCE = 30


def refused(path, match=None):
    start = time.monotonic()
    with pytest.raises(BundleError, match=match) as caught:
        load_agent(path)
    assert time.monotonic() - start < PATIENCE
    return caught.value
