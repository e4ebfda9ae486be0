"""Agents on disk: the container, parameter values and spaces as data, and the names that may occur in them."""

from rl_framework.bundle import allowed  # noqa: F401 - gives torch's and SB3's own classes their names
from rl_framework.bundle.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    open_checkpoint,
    prepare_directory,
    remove_leftovers,
    remove_old_checkpoints,
)
from rl_framework.bundle.format import FORMAT, FORMAT_VERSION, MIGRATIONS, Bundle, read_bundle, write_bundle
from rl_framework.bundle.part import BundlePart, part_members
from rl_framework.bundle.values import decode_value, encode_value, register_value_type
from rl_framework.json_spaces import decode_space, encode_space

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MIGRATIONS",
    "Bundle",
    "BundlePart",
    "checkpoint_path",
    "decode_space",
    "decode_value",
    "encode_space",
    "encode_value",
    "list_checkpoints",
    "open_checkpoint",
    "part_members",
    "prepare_directory",
    "read_bundle",
    "register_value_type",
    "remove_leftovers",
    "remove_old_checkpoints",
    "write_bundle",
]
