"""`linguad hub`: publish, list, take back and verify what a hub has, and write its index of packages."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trio
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from linguad.commands.asking import TOKEN_VARIABLE, on_this_machine
from linguad.commands.hub_client import HubClient, hash_file
from linguad.errors import LinguadError
from linguad.hub.catalog import Catalog
from linguad.hub.entries import services_index
from linguad.hub.hasher import Hasher
from linguad.hub.names import PLATFORMS, is_hidden

OURS = frozenset({"checksum.sha256", "manifest.json", "_hub.json"})
"""Files that the hub makes itself."""

WAIT_SECONDS = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `linguad hub`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _action(actions, "list", "list models with their versions")
    listing.add_argument("--json", action="store_true", help="print what the hub says, unchanged")
    publish = _action(actions, "publish", "publish a version of a model, or a package of a service")
    publish.add_argument("id", help="id of the model or service")
    publish.add_argument("version", help="a version like 1.2.3")
    publish.add_argument("path", type=Path, help="directory of the model's files, or the package (.zip)")
    publish.add_argument("--platform", choices=PLATFORMS, help="publish a package of a service for this")
    publish.add_argument("--channel", help="have a channel such as beta be this version")
    publish.add_argument("--notes", help="what is new")
    publish.add_argument("--task", help="what the model does, such as asr")
    publish.add_argument("--languages", help="languages of the model, such as zh,en")
    yank = _action(actions, "yank", "take a version back: it is no longer offered")
    yank.add_argument("id", help="id of the model")
    yank.add_argument("version")
    yank.add_argument("--reason", default="", help="told to whoever has it")
    yank.add_argument("--replacement", metavar="VERSION", help="what to use instead")
    yank.add_argument("--block", action="store_true", help="do not let it be downloaded either")
    verify = _action(actions, "verify", "have the hub hash its files again and take damaged versions away")
    verify.add_argument("id", nargs="?", help="id of a model; all without it")
    index = actions.add_parser("index", help="write services_index.json of a models directory")
    index.add_argument(
        "--models-dir", type=Path, default=os.environ.get("MODELS_DIR"), help="default: $MODELS_DIR"
    )
    index.add_argument(
        "--check", action="store_true", help="only tell whether the file is right (exit code 1)"
    )


def run(args: argparse.Namespace) -> int:
    """Do what is asked for. Raises LinguadError with the cure."""
    if args.action == "index":
        return _index(args)
    client = HubClient(args.hub, args.token or os.environ.get(TOKEN_VARIABLE) or "")
    actions = {"list": _list, "publish": _publish, "yank": _yank, "verify": _verify}
    return actions[args.action](args, client)


def _action(actions: Any, name: str, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=words)
    parser.add_argument(
        "--hub",
        default=f"http://{on_this_machine('hub')}",
        metavar="URL",
        help="where the hub is (default: %(default)s)",
    )
    parser.add_argument(
        "--token", help=f"admin token or key; not needed on the hub's machine (${TOKEN_VARIABLE})"
    )
    return parser


def _list(args: argparse.Namespace, client: HubClient) -> int:
    models = client.ask("GET", "/api/models?include_yanked=1")
    if args.json:
        print(json.dumps(models, indent=2, ensure_ascii=False))
        return 0
    if not models:
        print("The hub has no models; publish one with linguad hub publish.")
        return 0
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "task", "languages", "version", "size", "status"):
        table.add_column(name, justify="right" if name == "size" else "left")
    for model in models:
        for number, version in enumerate(model["versions"]):
            first = (
                (model["id"], model["task"], " ".join(model["languages"])) if number == 0 else ("", "", "")
            )
            marks = [version["status"]]
            marks += ["default"] if version["version"] == model["default_version"] else []
            marks += sorted(name for name, one in model["channels"].items() if one == version["version"])
            size = decimal(version["size_bytes"])
            table.add_row(*map(Text, (*first, version["version"], size, ", ".join(marks))))
    Console(highlight=False).print(table)
    return 0


def _publish(args: argparse.Namespace, client: HubClient) -> int:
    files = _files(args.path, package=args.platform is not None)
    total = sum(path.stat().st_size for path in files.values())
    kind = "services" if args.platform else "models"
    base = f"/api/admin/{kind}/{quote(args.id, safe='')}"
    if not args.platform and (args.task or args.languages):
        languages = args.languages.split(",") if args.languages else None
        client.ask("PUT", base, {"task": args.task, "languages": languages})
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        hashing = progress.add_task("hashing", total=total)
        listed = [
            {
                "path": name,
                "size_bytes": path.stat().st_size,
                "sha256": hash_file(path, lambda count: progress.advance(hashing, count)),
            }
            for name, path in files.items()
        ]
        wanted = {"version": args.version, "files": listed, "notes": args.notes, "channel": args.channel}
        if args.platform:
            wanted["platform"] = args.platform
        upload = client.ask("POST", f"{base}/versions", wanted)
        missing = {name: files[name] for name in upload["missing"]}
        sending = progress.add_task("sending", total=sum(path.stat().st_size for path in missing.values()))
        where = f"/api/admin/uploads/{upload['upload_id']}"
        for name, path in missing.items():
            size = path.stat().st_size
            client.send_file(
                f"{where}/files/{quote(name)}", path, size, lambda count: progress.advance(sending, count)
            )
        verifying = progress.add_task("verifying", total=None)
        told = client.ask("POST", f"{where}/commit?wait={WAIT_SECONDS}")
        progress.remove_task(verifying)
    if "status_url" in told:
        print(f"The hub is still verifying; see {client.url}{told['status_url']}")
    else:
        print(f"Published {args.id} {args.version}: {len(files)} files, {decimal(total)}.")
    return 0


def _yank(args: argparse.Namespace, client: HubClient) -> int:
    said = {"reason": args.reason, "replacement": args.replacement, "block_downloads": args.block}
    path = f"/api/admin/models/{quote(args.id, safe='')}/versions/{quote(args.version, safe='')}/yank"
    model = client.ask("POST", path, said)
    print(f"Taken back; the default of {args.id} is now {model['default_version'] or 'nothing'}.")
    return 0


def _verify(args: argparse.Namespace, client: HubClient) -> int:
    query = f"?model_id={quote(args.id, safe='')}" if args.id else ""
    told = client.ask("POST", f"/api/admin/verify{query}")
    print(f"The hub verifies {told['models']} models; damaged versions vanish from linguad hub list.")
    return 0


def _index(args: argparse.Namespace) -> int:
    if args.models_dir is None:
        raise LinguadError("name the models directory with --models-dir or in $MODELS_DIR")
    root = Path(args.models_dir)
    if not root.is_dir():
        raise LinguadError(f"--models-dir {root} is no directory")
    data = trio.run(_made_index, root, not args.check)
    if not args.check:
        print(f"Wrote {root / 'services' / 'services_index.json'}.")
        return 0
    path = root / "services" / "services_index.json"
    if path.exists() and path.read_bytes() == data:
        print("The index is right.")
        return 0
    print("The index is not right; write it with linguad hub index.")
    return 1


async def _made_index(root: Path, write: bool) -> bytes:
    catalog = Catalog(root, export=write)
    await catalog.open()
    await Hasher(catalog).once()
    return services_index(catalog.current.services)


def _files(path: Path, *, package: bool) -> dict[str, Path]:
    """The files to publish by the path they get. Raises LinguadError."""
    if package:
        if not path.is_file():
            raise LinguadError(f"{path} is no file; a package is one zip")
        return {"service.zip": path}
    if path.is_file():
        return {path.name: path}
    found = {
        one.relative_to(path).as_posix(): one
        for one in sorted(path.rglob("*"))
        if one.is_file() and not any(is_hidden(part) for part in one.relative_to(path).parts)
    }
    files = {name: one for name, one in found.items() if name not in OURS}
    if not files:
        raise LinguadError(f"{path} has no files to publish")
    return files
