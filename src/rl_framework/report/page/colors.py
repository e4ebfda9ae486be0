"""Colours of groups, on paper and on a dark screen.

Hues after Okabe and Ito, "Color Universal Design" (2008), told apart with any kind of colour blindness, made darker or
lighter until each has a contrast of at least 3 to 1 with its background (WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "STYLES"]

LIGHT = ("#0072b2", "#d55e00", "#007a5e", "#a8417e", "#7a5c00", "#5a4fcf", "#3f4a54", "#b3261e")
DARK = ("#56b4e9", "#ff9d5c", "#35cfa0", "#f0a0cc", "#e8c547", "#b4a8ff", "#c9d1d9", "#ff8a80")
STYLES = ("solid", "dash", "dot")
"""Of lines: when the colours are used up, they are used again with the next one."""
