"""What an operator says about one node, in the configuration and over HTTP."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace


class Override(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An operator's word about a node; None leaves it to the node and the settings."""

    cap: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Jobs at once."""
    drain: bool | None = None
    """No new jobs; running ones finish."""
    weight: Annotated[float, Meta(ge=0.05, le=20)] | None = None
    """Factor of the node's speed as selection sees it: 2 draws about twice the work."""
    note: Annotated[str, Meta(max_length=500)] | None = None
    """For other operators to read."""

    def over(self, other: Override) -> Override:
        """Both, where this one goes first."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return replace(other, **said)


ALLOWED = {
    "cap": "a whole number from 1 to 64",
    "drain": "true or false",
    "weight": "a number from 0.05 to 20",
    "note": "text of at most 500 characters",
}
"""What each member may be, in words."""
