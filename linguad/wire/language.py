"""Language codes as they are compared; the wire values stay as given (node-protocol 2.12)."""

from __future__ import annotations

AUTO = "auto"
"""Source language to be detected by the node."""

_ALIASES = {
    "zh-cn": "zh",
    "zh-tw": "zh",
    "zh-hans": "zh",
    "zh-hant": "zh",
    "pt-br": "pt",
    "pt-pt": "pt",
    "en-us": "en",
    "en-gb": "en",
    "in": "id",
    "iw": "he",
}


def normalize(code: str) -> str:
    """Lower case, regional forms of a few languages folded into one."""
    code = code.strip().lower()
    return _ALIASES.get(code, code)
