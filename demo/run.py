"""The main job, end to end: a server, a node on this machine's CPU, and spoken English that becomes Spanish.

`make demo` prepares everything and runs this. Exit code 0 means that every sentence came back as text and
speech. What the server and the node have to say is in out/demo/*.log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pocketsphinx

TOP = Path(__file__).resolve().parent.parent
OUT = TOP / "out" / "demo"
SENTENCES = sorted((TOP / "demo" / "audio").glob("*.wav"))

READY_S = 60
"""For the server, and again for the node, which loads its models: a slow disk needs some time."""

MODEL, MODEL_VERSION = "pocketsphinx-en-us", "5.0.0"
MODEL_FILES = ("en-us", "en-us.lm.bin", "cmudict-en-us.dict")
"""What the speech recogniser needs; the hub publishes it, and the node fetches it from there."""

STOP_S = 40
"""Longer than the server's own drain and hard stop."""

TRIES = 3
"""A node that just registered may not be chosen yet."""


class DemoError(Exception):
    """What went wrong, in one sentence."""


def main() -> int:
    """Run the demo and return its exit code."""
    # An end from outside must unwind the stack too, or the children would stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            port, api_port, hub_port = free_port(), free_port(), free_port()
            say(f"Starting linguad on port {port}, and a node that uses this machine's CPU …")
            settings = {
                "SERVER__PORT": port,
                "SERVER__HOST": "127.0.0.1",
                "SERVER__STATE_DIR": OUT / "state",
                "GATEWAY__PORT": api_port,
                "GATEWAY__HOST": "127.0.0.1",
                "HUB__PORT": hub_port,
                "HUB__HOST": "127.0.0.1",
            }
            environment = {f"LINGUAD_{name}": str(value) for name, value in settings.items()}
            server = stack.enter_context(child("server", ["serve"], environment))
            wait_until(f"http://127.0.0.1:{port}/ready", lambda ready: True, server)
            hub = f"http://127.0.0.1:{hub_port}"
            publish_model(hub)
            shutil.rmtree(OUT / "node", ignore_errors=True)
            words = ["node", "--server", f"ws://127.0.0.1:{port}/ws/node", "--hub", hub]
            node = stack.enter_context(child("node", [*words, "--data-dir", str(OUT / "node")]))
            wait_until(f"http://127.0.0.1:{port}/api/v1/languages", hears_english, node)
            say("   The node has fetched it, checked it, and offers English to Spanish.")
            say(f"Both are ready after {time.monotonic() - began:.1f} s.\n")
            for number, sentence in enumerate(SENTENCES, start=1):
                tell(number, sentence, translate(sentence, port))
            call_api(SENTENCES[0], api_port)
    except DemoError as error:
        say(f"\nThe demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    took = time.monotonic() - began
    say(f"All {len(SENTENCES)} sentences came back as text and speech, in {took:.0f} s with start and stop.")
    say(f"Listen to them: {relative(OUT)}/*.wav")
    return 0


def publish_model(hub: str) -> None:
    """Put the model of the speech recogniser on the hub, from the package that is installed here.

    Raises DemoError.
    """
    source, model = Path(pocketsphinx.get_model_path()) / "en-us", OUT / MODEL
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir()
    for name in MODEL_FILES:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, model / name)
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    say(f"Publishing the model {MODEL} ({size / 1e6:.0f} MB) on the hub, {hub}")
    words = ["hub", "publish", MODEL, MODEL_VERSION, str(model), "--hub", hub, "--task", "asr"]
    done = subprocess.run(linguad(*words, "--languages", "en"), capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"the hub did not take the model: {done.stderr.strip()}")


def hears_english(languages: Mapping[str, Any]) -> bool:
    """Whether some node turns English into Spanish."""
    return any((pair["src"], pair["tgt"]) == ("en", "es") for pair in languages["pairs"])


def translate(sentence: Path, port: int) -> dict[str, Any]:
    """What `linguad translate --json` says about a sound file. Raises DemoError."""
    out = OUT / sentence.name
    out.unlink(missing_ok=True)
    command = [
        *linguad("translate"),
        str(sentence),
        "--from",
        "en",
        "--to",
        "es",
        "--json",
        "--out",
        str(out),
    ]
    for _ in range(TRIES):
        server = f"ws://127.0.0.1:{port}/ws/session"
        done = subprocess.run([*command, "--server", server], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    else:
        raise DemoError(f"{sentence.name} was not translated: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    if not report["text_asr"] or not report["text_translated"]:
        raise DemoError(f"{sentence.name} came back without text")
    if not report["speech_seconds"] or not out.stat().st_size:
        raise DemoError(f"{sentence.name} came back without speech")
    return report


def call_api(sentence: Path, port: int) -> None:
    """Translate a sound file as somebody else's app does, and say how. Raises DemoError."""
    key_file, url = OUT / "state" / "dev_api_key", f"http://127.0.0.1:{port}/v1/speech/translate"
    say("The same over the public API, with the key that linguad made at its first start:")
    say(f'   curl {url} -H "Authorization: Bearer $(cat {relative(key_file)})" \\')
    say(f"     -F audio=@{relative(sentence)} -F src_lang=en -F tgt_lang=es")
    fields = {
        "src_lang": "en",
        "tgt_lang": "es",
        "audio": b64encode(sentence.read_bytes()).decode(),
    }
    headers = {
        "Authorization": f"Bearer {key_file.read_text().strip()}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(url, json.dumps(fields).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=READY_S) as reply:
            answer = json.load(reply)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise DemoError(f"the public API did not answer: {error}") from error
    if not answer["text"] or not answer["audio_tts"]:
        raise DemoError("the public API answered without text or speech")
    shown = {name: answer[name] for name in ("text_asr", "text", "tts_format", "duration_ms", "usage")}
    say(f"   {json.dumps(shown, ensure_ascii=False)}\n")


def tell(number: int, sentence: Path, report: Mapping[str, Any]) -> None:
    """Print one sentence with its times."""
    times = report["utterances"][0]["time_breakdown"] or {}
    stages = report["utterances"][0]["service_timings"] or {}
    say(f"{number}  {relative(sentence)}, {report['seconds']:.1f} s of speech")
    say(f"   heard    {report['text_asr']}")
    say(f"   Spanish  {report['text_translated']}")
    say(f"   speech   {relative(report['out'])}, {report['speech_seconds']:.1f} s")
    if times:
        inside = ", ".join(
            f"{name.removesuffix('_ms')} {ms}" for name, ms in stages.items() if name != "total_ms"
        )
        steps = ", ".join(
            f"{name} {times[f'{name}_ms']:.1f}" + (f" ({inside})" if name == "node" and inside else "")
            for name in ("cut", "queue", "send", "node", "reorder")
        )
        say(f"   took     {times['total_ms']:.0f} ms after the last word: {steps}")
    say()


@contextmanager
def child(
    name: str, command: list[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A linguad command in the background, ended with SIGTERM; its output goes to a log. Raises DemoError."""
    with (OUT / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            linguad(*command), stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
    if code:
        raise DemoError(f"the {name} ended with exit code {code}; see {relative(OUT)}/{name}.log")


def wait_until(url: str, wanted: Callable[[dict[str, Any]], bool], process: subprocess.Popen[bytes]) -> None:
    """Ask the server until its answer is what is wanted. Raises DemoError when it takes too long."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"a process ended early; the logs in {relative(OUT)} say why")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if wanted(json.load(answer)):
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.1)
    raise DemoError(f"not ready within {READY_S} s; the logs in {relative(OUT)} say more")


def linguad(*arguments: str) -> list[str]:
    """The command line of a linguad command."""
    return [sys.executable, "-m", "linguad", *arguments]


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def relative(path: str | Path) -> Path:
    """The path as a person in the project's directory types it."""
    return Path(os.path.relpath(path))


def say(text: str = "") -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
