"""Loops over bytes: the compiled module where it was built, else its plain-Python twin.

LINGUAD_NO_EXTENSIONS=1 in the environment asks for the plain one.
"""

from __future__ import annotations

import os
from contextlib import suppress

from linguad import _bytes_py as _twin

__all__ = ["unmask", "walk"]

if not os.environ.get("LINGUAD_NO_EXTENSIONS"):
    with suppress(ImportError):
        from linguad import _bytes as _twin  # type: ignore[no-redef]

unmask = _twin.unmask
walk = _twin.walk
