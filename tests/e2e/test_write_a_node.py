"""The node of docs/write-a-node.md and of its Chinese twin is a node: what it says reaches a client."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio
from conftest import Start
from documents import example
from patience import PATIENCE_S
from processes import Process, clean_environment


@pytest.mark.parametrize("page", ["docs/write-a-node.md", "docs/zh/node-protocol.md"])
async def test_the_node_of_the_page_translates(page: str, start: Start, tmp_path: Path) -> None:
    program = tmp_path / "node.py"
    program.write_text(example(page, "python"))
    daemon = start()
    url = f"ws://127.0.0.1:{await daemon.port()}/ws/node"
    node = Process([sys.executable, str(program), url], clean_environment(), tmp_path)
    try:
        await daemon.event("node_registered")
        with trio.fail_after(PATIENCE_S):
            async with daemon.client() as client:
                await client.utterance(0)
                result = await client.result()
        assert (result["text_translated"], result["tts_format"]) == ("hola", "pcm16")
        assert result["text_asr"].endswith(" bytes")
        assert result["tts_audio"]
    finally:
        node.clear_away()
