"""Agents on disk: the container, parameter values and spaces as data, and the names that may occur in them."""

from rl_framework.bundle import allowed  # noqa: F401 - gives torch's and SB3's own classes their names
from rl_framework.bundle.format import FORMAT, FORMAT_VERSION, MIGRATIONS, Bundle, read_bundle, write_bundle
from rl_framework.bundle.spaces import decode_space, encode_space
from rl_framework.bundle.values import decode_value, encode_value, register_value_type

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MIGRATIONS",
    "Bundle",
    "decode_space",
    "decode_value",
    "encode_space",
    "encode_value",
    "read_bundle",
    "register_value_type",
    "write_bundle",
]
