"""Numbers on the command line: each says in one sentence what it must be."""

from __future__ import annotations

import argparse
from math import isfinite

MOST = 10_000_000
"""Largest count of anything; a typing error of more would only be slow to find."""


def count(text: str) -> int:
    """A whole number from 1 on; `1_000_000` is easier to read."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST}")
    return number


def amount(text: str) -> float:
    """A number above 0."""
    number = _number(text)
    if number is None or number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def amount_or_none(text: str) -> float:
    """A number from 0 on."""
    number = _number(text)
    if number is None or number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return number


def ratio(text: str) -> float:
    """A number from 1 on."""
    number = _number(text)
    if number is None or number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return number


def percent(text: str) -> float:
    """A number above 0 up to 100, as a part of 1."""
    number = _number(text)
    if number is None or not 0 < number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0, up to 100")
    return number / 100


def spread(text: str) -> float:
    """A standard deviation in percent of the average, as a part of 1."""
    number = _number(text)
    if number is None or not 0 <= number <= 200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 200")
    return number / 100


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None
