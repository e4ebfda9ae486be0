"""Keeping tokens out of everything that is written: messages, logs, spools, cards, records."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

__all__ = ["HIDDEN", "RedactingFilter", "describe_error", "redact", "redact_values", "redactor", "remember_secret"]

HIDDEN = "***"

_VARIABLES = re.compile(
    r"^(?:HF_TOKEN|HUGGING_?FACE_HUB_TOKEN|CLEARML_API_(?:ACCESS|SECRET)_KEY|TRAINS_API_(?:ACCESS|SECRET)_KEY"
    r"|.*(?:_TOKEN|_SECRET|_SECRET_KEY|_API_KEY|_ACCESS_KEY|_PASSWORD))$"
)
_SHORTEST = 6
"""A shorter value would be found within ordinary words, and is no token."""

_LOOKS_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?"  # a JSON web token
    r"|(?<=://)[^/@\s]+(?=@)"  # who an address says is calling
)
_SCHEME = re.compile(r"\b(bearer|basic)\s+(?!\*\*\*)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_SIGNATURE = re.compile(r"\b(X-Amz-(?:Signature|Credential|Security-Token)|Signature|sig)=[^&\s\"']+")

_remembered: set[str] = set()


def remember_secret(*secrets: str | None) -> None:
    """Takes note of tokens that were given as arguments or read from a client's settings."""
    _remembered.update(secret for secret in secrets if secret and len(secret) >= _SHORTEST)


def _known() -> list[str]:
    # Another thread may take a variable away meanwhile, which `os.environ.items()` does not endure.
    values = {os.environ.get(name, "") for name in list(os.environ) if _VARIABLES.match(name)} | _remembered
    plain = {value for value in values if len(value) >= _SHORTEST}
    # As they stand in addresses, and as they stand in a header of the scheme "basic".
    quoted = {quote(value, safe="") for value in plain}
    encoded = {base64.b64encode(value.encode()).decode() for value in plain}
    return sorted(plain | quoted | encoded, key=len, reverse=True)


def redactor() -> Callable[[str], str]:
    """Returns a fast `redact` for many texts: it knows the secrets that there are now, and none that come later."""
    known = _known()
    values = re.compile("|".join(map(re.escape, known))) if known else None

    def hide(text: str) -> str:
        if values is not None:
            text = values.sub(HIDDEN, text)
        # What the patterns need to be there at all is quicker to look for.
        if "=" in text:
            text = _SIGNATURE.sub(rf"\1={HIDDEN}", text)
        if "hf_" in text or "eyJ" in text or "://" in text:
            text = _LOOKS_SECRET.sub(HIDDEN, text)
        lower = text.lower()
        if "bearer" in lower or "basic" in lower:
            text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
        return text

    return hide


def redact(text: str) -> str:
    """Returns a text with every secret in it hidden: what is known to be one, and what looks like one."""
    return redactor()(text)


def redact_values(value: Any) -> Any:
    """Returns JSON-able data with the secrets in its texts hidden; keys stay as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_values(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(entry) for entry in value]
    return value


def describe_error(error: BaseException) -> str:
    """Returns the type and the message of an exception on one line, with secrets hidden."""
    text = " ".join(redact(str(error)).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class RedactingFilter(logging.Filter):
    """Hides secrets in the messages of a logger or a handler it is added to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; it always passes."""
        message = record.getMessage()
        clean = redact(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[1] is not None:
            text = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = redact(text), None
        return True
