"""The file checksum.sha256: the JSON form that clients parse, and others that are read (model-hub 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

CHECKSUM = "checksum.sha256"

_HEX = re.compile(r"[0-9a-fA-F]{64}")
_LINE = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)")


def parse_checksums(data: bytes, paths: Sequence[str]) -> dict[str, str]:
    """Digests by path, from JSON, from lines of `sha256sum`, or from one digest of the only file.

    Raises ValueError, in one sentence.
    """
    text = data.decode("utf-8-sig", "replace").strip()
    if text.startswith("{"):
        try:
            found = msgspec.json.decode(text, type=dict[str, str])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ValueError(f"it is no JSON object of paths and digests: {error}") from error
    elif _HEX.fullmatch(text):
        files = [path for path in paths if path != "manifest.json"]
        if len(files) != 1:
            raise ValueError("it has one digest, but there is not just one file")
        found = {files[0]: text}
    else:
        lines = [_LINE.fullmatch(line.rstrip("\r")) for line in text.split("\n") if line.strip()]
        if not all(lines):
            raise ValueError("it is neither JSON nor the output of sha256sum")
        found = {match[2].removeprefix("./"): match[1] for match in lines if match}
    if wrong := next((path for path, digest in found.items() if not _HEX.fullmatch(digest)), None):
        raise ValueError(f"the digest of {wrong!r} is not 64 hexadecimal digits")
    return {path.replace("\\", "/"): digest.lower() for path, digest in found.items()}


def checksum_json(digests: Mapping[str, str]) -> bytes:
    """The canonical form, with its line end."""
    return msgspec.json.encode(dict(sorted(digests.items()))) + b"\n"


def checksum_text(digests: Mapping[str, str]) -> bytes:
    """The form that `sha256sum -c` reads."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode()
