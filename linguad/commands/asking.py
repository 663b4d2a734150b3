"""What the commands share that ask a running server over HTTP."""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, Literal

from rich.console import Console

from linguad.config import Config
from linguad.errors import LinguadError

TIMEOUT_SECONDS = 10.0
"""How long the server may take; it answers from memory."""

NO_ANSWER = (OSError, ValueError, HTTPException)
"""What reading an answer raises that does not come, is cut off, or is none of HTTP or JSON."""

PIPE_WIDTH = 160
"""Columns of what goes to a file or a program."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

TOKEN_VARIABLE = "LINGUAD_SERVER__ADMIN_TOKEN"


def on_this_machine(table: Literal["server", "hub"]) -> str:
    """Host and port of a server here: the port of the environment, else the default one."""
    variable = f"LINGUAD_{table.upper()}__PORT"
    return f"127.0.0.1:{os.environ.get(variable) or getattr(Config(), table).port}"


def add_server_arguments(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Where the server is, the token for it, and whether its answer is printed as it is.

    `again` is for an action of a command that takes them before the action as well.
    """
    unless_given = argparse.SUPPRESS if again else None
    here = f"http://{on_this_machine('server')}"
    parser.add_argument(
        "--server",
        default=unless_given or here,
        type=_server,
        metavar="URL",
        help=f"where linguad serves HTTP (default: {here})",
    )
    parser.add_argument(
        "--token",
        default=unless_given,
        help=f"admin token, not needed on the machine of the server (default: ${TOKEN_VARIABLE}, else, on "
        "this machine, the file admin_token in the state directory)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=unless_given or False,
        help="print what the server says, unchanged",
    )


def print_json(args: argparse.Namespace, answer: Any) -> bool:
    """Print the answer as it is, if that is asked for; whether it was."""
    if args.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    return bool(args.json)


def console() -> Console:
    """Where an answer is shown: as wide as the terminal, or wide enough for ids in a file or a program."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def query(**asked: object) -> str:
    """A query of what is not None; lists are given several times."""
    text = urllib.parse.urlencode({name: one for name, one in asked.items() if one is not None}, doseq=True)
    return f"?{text}" if text else ""


def quote(name: str) -> str:
    """An id as part of a path."""
    return urllib.parse.quote(name, safe="")


def ask(args: argparse.Namespace, method: str, path: str) -> Any:
    """The server's answer to a request below `/api/v1/`. Raises LinguadError with the cure if it refuses."""
    return _ask(args.server, method, path, args.token or os.environ.get(TOKEN_VARIABLE) or "")


def events(args: argparse.Namespace, path: str) -> Iterator[str]:
    """The data of server-sent events below `/api/v1/`, until the server ends the stream.

    Raises LinguadError with the cure if it refuses, or goes away.
    """
    token = args.token or os.environ.get(TOKEN_VARIABLE) or ""
    with _open(args.server, "GET", path, token) as response:
        try:
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "data":
                    yield value
        except NO_ANSWER as error:
            raise _no_answer(args.server, error) from error


def _ask(server: str, method: str, path: str, token: str) -> Any:
    with _open(server, method, path, token) as response:
        try:
            return json.load(response)
        except NO_ANSWER as error:
            raise _no_answer(server, error) from error


def _open(server: str, method: str, path: str, token: str) -> Any:
    """The answer, to be read; with the token that this machine keeps, if none was given and one is wanted."""
    request = urllib.request.Request(f"{server}/api/v1/{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 401 and not token and (kept := _kept_token(server)):
                return _open(server, method, path, kept)
            raise LinguadError(_said(error)) from error
    except NO_ANSWER as error:
        raise _no_answer(server, error) from error


def _no_answer(server: str, error: Exception) -> LinguadError:
    why = str(getattr(error, "reason", error)).strip()
    return LinguadError(f"no answer from {server}: {why}; is linguad running there?")


def _said(error: urllib.error.HTTPError) -> str:
    if error.code == 401:
        return f"the admin token is wrong or missing; give it with --token or in ${TOKEN_VARIABLE}"
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code}; is this the address of linguad?"


def _kept_token(server: str) -> str:
    """The token that a server of this user keeps, if it can be read; never for another machine."""
    if urllib.parse.urlsplit(server).hostname not in LOOPBACK:
        return ""
    try:
        return (Config().state_dir() / "admin_token").read_text().strip()
    except (OSError, LinguadError):
        return ""


def _server(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address like http://127.0.0.1:5010")
    return text.rstrip("/")
