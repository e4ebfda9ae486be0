"""Files that appear whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replaced_when_whole"]


@contextmanager
def replaced_when_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, which takes the place of `path` when the block ends without an error.

    Missing folders are created. After an error the temporary file is removed and `path` is as it was.

    Args:
        path: Where the file should be in the end.

    Yields:
        An absolute path in the same folder and with the same ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Absolute, because programs take a relative name with a colon or a leading dash for something else.
    temporary = path.absolute().with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
