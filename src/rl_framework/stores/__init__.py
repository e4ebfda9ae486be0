"""Files elsewhere, by address: S3, Google Cloud, Google Drive, the Hugging Face Hub, SFTP, folders.

An address can be given wherever an agent, a checkpoint or a data set is opened. What was published is followed by its
manifest and verified; see `rl_framework.stores.publication`. Clients of services are imported when they are used.
"""

from rl_framework.stores.address import SCHEMES, Address, is_address, parse_address, refuse_address
from rl_framework.stores.base import DamagedError, FileStore, MissingError, StoreError
from rl_framework.stores.manifest import Manifest, check_name
from rl_framework.stores.opening import (
    BUNDLE_NAME,
    copy_of_file,
    copy_of_files,
    is_published,
    open_store,
    opened_place,
    temporary_copies,
)
from rl_framework.stores.publication import Place, explain, is_transient, retrying

__all__ = [
    "BUNDLE_NAME",
    "SCHEMES",
    "Address",
    "DamagedError",
    "FileStore",
    "Manifest",
    "MissingError",
    "Place",
    "StoreError",
    "check_name",
    "copy_of_file",
    "copy_of_files",
    "explain",
    "is_address",
    "is_published",
    "is_transient",
    "open_store",
    "opened_place",
    "parse_address",
    "refuse_address",
    "retrying",
    "temporary_copies",
]
