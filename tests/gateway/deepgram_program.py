"""A program for the SDK of Deepgram: `deepgram_program.py URL KEY`; prints what it hears as JSON."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from deepgram import DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment


def main(url: str, key: str) -> None:
    """Speak two sentences of a second each, end the first by hand, and listen to the end."""
    here = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)
    client = DeepgramClient(api_key=key, environment=here)
    heard: list[dict[str, Any]] = []
    sound = bytes(range(1, 251)) * 128
    asked = {"encoding": "linear16", "sample_rate": 16000, "language": "en", "interim_results": True}
    more = {"additional_query_parameters": {"tgt_lang": "es"}}
    with client.listen.v1.connect(model="nova-3", request_options=more, **asked) as connection:
        finals = threading.Semaphore(0)

        def on_message(message: Any) -> None:
            kind = type(message).__name__
            heard.append({"kind": kind, **json.loads(message.json())})
            if heard[-1].get("is_final"):
                finals.release()

        connection.on(EventType.MESSAGE, on_message)
        connection.on(EventType.ERROR, lambda error: heard.append({"kind": "error", "text": str(error)}))
        listening = threading.Thread(target=connection.start_listening)
        listening.start()
        for start in range(0, len(sound), 3200):
            connection.send_media(sound[start : start + 3200])
        connection.send_finalize()
        finals.acquire(timeout=100)
        connection.send_keep_alive()
        connection.send_media(sound)
        connection.send_close_stream()
        listening.join(100)
    print(json.dumps(heard))


main(*sys.argv[1:])
