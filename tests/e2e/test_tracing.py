"""A daemon sends its spans to a real collector, says when it cannot, and does without if it is off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio
from conftest import Start
from processes import clean_environment, linguad, write_config
from redis_server import free_port
from tracing.collector import attributes, collecting

PATIENCE_S = 240.0
TRACE = "5b0cf3a2-6a4f-4a44-9d63-0a2f6f6d1f01"
TIMINGS = {"asr_ms": 40, "nmt_ms": 20, "tts_ms": 30, "total_ms": 90}


async def test_utterances_come_as_traces(start: Start) -> None:
    with collecting() as collector, trio.fail_after(PATIENCE_S):
        daemon = start(tracing={"enabled": True, "endpoint": collector.url})
        async with daemon.node() as node, daemon.client(trace_id=TRACE) as client:
            await client.speak()
            job = await node.job()
            await trio.sleep(0.2)
            await node.answer(job, processing_time_ms=100, extra={"service_timings": TIMINGS})
            result = await client.result()
            await client.utterance(1, trace_id="not a number")
            await node.fail(await node.job(), message="Unsupported audio format: oído 1")
            await client.until("missing_result")
        good, bad = await trio.to_thread.run_sync(collector.utterances, 2)
        daemon.stop()

        assert good.trace_id.hex() == TRACE.replace("-", "")
        assert bad.trace_id != good.trace_id
        breakdown = result["time_breakdown"]
        assert abs((good.end_time_unix_nano - good.start_time_unix_nano) / 1e6 - breakdown["total_ms"]) < 0.01
        told = attributes(good)
        assert told["linguad.session_id"] == result["session_id"]
        assert told["linguad.job_id"] == result["job_id"]
        assert told["linguad.utterance_trace_id"] == result["utterance_trace_id"]
        assert told["linguad.outcome"] == "completed"
        assert good.status.code == 0
        stages = collector.below(good)
        assert list(stages) == ["cut", "queue", "send", "node", "reorder"]
        for name, span in stages.items():
            long_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            assert abs(long_ms - breakdown[f"{name}_ms"]) < 0.01
            assert span.trace_id == good.trace_id
        inside = collector.below(stages["node"])
        lengths = {name: span.end_time_unix_nano - span.start_time_unix_nano for name, span in inside.items()}
        assert lengths == {"asr": 40_000_000, "nmt": 20_000_000, "tts": 30_000_000}

        assert bad.status.code == 2
        assert attributes(bad)["linguad.outcome"] == "job_failed"
        assert attributes(collector.below(bad)["attempt"])["linguad.end"] == "failed"
        assert attributes(collector.resources[0])["service.name"] == "linguad"
        sent = b"".join(collector.bodies)
        assert "oído".encode() not in sent, "what was said is nobody's business"
        assert b"heard" not in sent


async def test_without_its_collector_a_daemon_works_on(start: Start) -> None:
    port = free_port()
    with trio.fail_after(PATIENCE_S):
        daemon = start(tracing={"enabled": True, "endpoint": f"http://127.0.0.1:{port}/v1/traces"})
        async with daemon.working_node(), daemon.client() as client:
            await client.utterance(0)
            await client.result()
            failed = await daemon.event("tracing_failed", utterances=1)
            assert failed["reason"]
            with collecting(port) as collector:
                await client.utterance(1)
                await client.result()
                await trio.to_thread.run_sync(collector.utterances, 1)
                await daemon.event("tracing_works_again")
            metrics = (await daemon.get("/metrics"))[1]
        assert 'linguad_traced_total{outcome="failed"} 1.0' in metrics
        assert 'linguad_traced_total{outcome="exported"} 1.0' in metrics
        assert not [event for event in daemon.events if event["event"] == "library_message"]
        daemon.stop()


def test_what_is_off_is_not_in_memory() -> None:
    program = "import sys, linguad.daemon\nprint({'opentelemetry', 'linguad.tracing'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")


def test_without_its_packages_the_daemon_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").write_text("raise ImportError('no opentelemetry here')")
    state = {"state_dir": str(tmp_path / "state"), "host": "127.0.0.1", "port": 0}
    config = write_config(tmp_path / "linguad.toml", tracing={"enabled": True}, server=state)
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}"
    done = linguad("serve", "--config", config, env=environment)
    assert done.returncode == 1
    assert "tracing.enabled: needs what `pip install linguad[tracing]` brings along" in done.stderr


def test_an_endpoint_is_an_address(tmp_path: Path) -> None:
    config = write_config(tmp_path / "linguad.toml", tracing={"endpoint": "collector:4318"})
    done = linguad("config", "check", "--config", config)
    assert done.returncode == 2
    assert "tracing.endpoint" in done.stderr + done.stdout
    assert "http://127.0.0.1:4318/v1/traces" in done.stderr + done.stdout
