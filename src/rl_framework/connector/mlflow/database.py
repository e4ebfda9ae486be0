"""A new database for MLflow, which is there when all of it is there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import unquote

from rl_framework.whole_file import TEMPORARY_PREFIX, sync_directory

__all__ = ["make_database"]

_SQLITE = "sqlite:///"


def make_database(uri: str) -> None:
    """Makes the SQLite database that an address names, if there is none.

    MLflow makes its tables one after the other, which takes seconds, and can never use a database in which some are
    missing because its process was killed meanwhile. So it makes them under another name. What is not done here, for
    an address of another kind, MLflow does by itself.

    Args:
        uri: The address.
    """
    from mlflow.store.db import utils

    path = Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0]))
    make_tables = getattr(utils, "_initialize_tables", None)  # it has no public name
    if not uri.startswith(_SQLITE) or not path.name or path.name == ":memory:" or path.exists() or make_tables is None:
        return
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.db")
    try:
        engine = utils.create_sqlalchemy_engine(f"{_SQLITE}{temporary}")
        try:
            make_tables(engine)
        finally:
            engine.dispose()
        _take_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _take_place(temporary: Path, path: Path) -> None:
    """Gives a file its name, unless another process was quicker, whose database may hold something already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            temporary.replace(path)
    sync_directory(path.parent)
