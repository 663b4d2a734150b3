"""Logging: what a line holds and never holds, levels, the file, and that every event is documented."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linguad import config, log
from linguad.errors import CloseReason, ConfigError, ErrorCode

ROOT = Path(__file__).parent.parent
SECRET = "the quick brown fox"


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    log.reset()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def start(stream: io.StringIO | None = None, **settings: object) -> io.StringIO:
    stream = stream or io.StringIO()
    log.configure(config.Log(**{"format": "json", **settings}), stream=stream)  # type: ignore[arg-type]
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def written(**fields: object) -> dict[str, object]:
    """What becomes of `fields` in a line."""
    stream = start()
    log.get("linguad.test").info("event", **fields)
    (line,) = lines(stream)
    return {key: value for key, value in line.items() if key not in ("timestamp", "level", "event", "logger")}


def test_a_line_states_time_level_event_logger_and_fields() -> None:
    stream = start()
    log.get("linguad.nodes.serve").warning("node_lost", node="n-1", jobs=3)
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("timestamp")))
    assert line == {
        "level": "warning",
        "event": "node_lost",
        "logger": "linguad.nodes.serve",
        "node": "n-1",
        "jobs": 3,
    }
    assert stream.getvalue().startswith('{"timestamp":')


def test_bound_fields_are_kept() -> None:
    stream = start()
    log.get("linguad.test").bind(session="s-1").info("event", n=1)
    (line,) = lines(stream)
    assert (line["session"], line["n"]) == ("s-1", 1)


@pytest.mark.parametrize(
    "name",
    [
        *("audio", "payload", "text", "text_asr", "translated_text", "asr_texts", "textTranslated", "TEXT"),
        *(
            "key",
            "api_key",
            "apiKey",
            "token",
            "resume_token",
            "Authorization",
            "x-api-key",
            "password",
            "secret",
        ),
        *("admin_token", "cookie", "context_text", "transcript"),
    ],
)
def test_speech_text_and_keys_show_their_length_only(name: str) -> None:
    assert written(**{name: SECRET}) == {name: f"<{len(SECRET)} chars>"}
    assert written(outer={name: SECRET}) == {"outer": {name: f"<{len(SECRET)} chars>"}}
    assert written(**{name: [SECRET]}) == {name: "<1 items>"}


@pytest.mark.parametrize("name", ["audio_ms", "audio_bytes", "text_chars", "token_count"])
def test_numbers_about_them_are_shown(name: str) -> None:
    assert written(**{name: 12}) == {name: 12}


def test_the_public_id_of_a_key_is_shown() -> None:
    assert written(key_id="abc") == {"key_id": "abc"}


@given(
    st.recursive(
        st.just(SECRET) | st.just(SECRET.encode()) | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    ),
    st.sampled_from(["text", "payload", "api_key", "audio"]),
)
def test_nothing_below_a_private_name_is_written(value: object, name: str) -> None:
    stream = start()
    log.get("linguad.test").info("event", **{name: value}, other={name: value})
    assert SECRET not in stream.getvalue()


def test_any_fields_give_one_line() -> None:
    @given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.floats() | st.binary()))
    def check(fields: dict[str, object]) -> None:
        assert "\n" not in json.dumps(written(fields=fields))

    check()


def test_objects_and_bytes_show_what_they_are_only() -> None:
    class Message(msgspec.Struct):
        body: str

    assert written(message=Message(body=SECRET)) == {"message": "<Message>"}
    assert written(chunk=b"1234", view=memoryview(b"12")) == {"chunk": "<4 bytes>", "view": "<2 bytes>"}


def test_values_are_made_plain_and_short() -> None:
    assert written(path=Path("/a"), at=(1, 2.5), on=True, none=None) == {
        "path": "/a",
        "at": [1, 2.5],
        "on": True,
        "none": None,
    }
    assert written(code=ErrorCode.INVALID_SESSION, why=CloseReason.SILENT_PEER) == {
        "code": "INVALID_SESSION",
        "why": "silent_peer",
    }
    assert written(big=2**70) == {"big": "<int of 71 bits>"}
    assert written(table=MappingProxyType({1: 2})) == {"table": {"1": 2}}
    assert written(many=list(range(1000))) == {"many": list(range(log.MAX_ITEMS))}
    assert written(error=ValueError("why")) == {"error": "ValueError: why"}
    deep: object = SECRET
    for _ in range(100):
        deep = [deep]
    assert SECRET not in str(written(deep=deep))


def test_long_texts_are_cut() -> None:
    cut = str(written(reason="x" * 100_000)["reason"])
    assert cut == "x" * log.MAX_TEXT_CHARS + "… <100000 chars>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/v1/stream?api_key=abc123&x=1", "/v1/stream?api_key=<hidden>&x=1"),
        ("GET /a?ticket=abc123 HTTP/1.1", "GET /a?ticket=<hidden> HTTP/1.1"),
        ("Authorization: Bearer abc123", "Authorization: Bearer <hidden>"),
        ("redis://user:abc123@host:6379/0", "redis://<hidden>@host:6379/0"),
        ("ws://127.0.0.1:5010/ws/node", "ws://127.0.0.1:5010/ws/node"),
        ("no-tenant-for:lk_live_abcdefghij23_s3-CRET_x", "no-tenant-for:lk_live_abcdefghij23_<hidden>"),
        ("tk_s3-CRET_x", "tk_<hidden>"),
        ("lingua.v1,bearer.c2VjcmV0", "lingua.v1,bearer.<hidden>"),
        ('{"type":"auth","token":"abc123"}', '{"type":"auth","token":"<hidden>"}'),
        ("next=%2Fv1%3Fapi_key%3Dabc123", "next=%2Fv1%3Fapi_key%3D<hidden>"),
        ("(api_key%3dabc123)", "(api_key%3d<hidden>"),
        ("whsec_abc123", "whsec_<hidden>"),
    ],
)
def test_keys_inside_a_text_are_hidden(text: str, shown: str) -> None:
    assert written(target=text) == {"target": shown}


def test_the_id_of_a_key_is_shown() -> None:
    assert written(key_id="abcdefghij23", key="abcdefghij23") == {
        "key_id": "abcdefghij23",
        "key": "<12 chars>",
    }


@pytest.mark.parametrize("start", ["?api_key=", "Bearer ", "redis://user:"])
@pytest.mark.parametrize("tail", ["", " and more" * 100_000])
def test_a_key_at_the_cut_is_hidden(start: str, tail: str) -> None:
    for before in range(log.MAX_TEXT_CHARS - 30, log.MAX_TEXT_CHARS):
        assert "SECRET" not in str(
            written(reason=f"{'x ' * (before // 2)}{start}SECRET{'y' * 300}@host{tail}")
        )


def test_the_length_of_a_text_is_told_as_it_came() -> None:
    assert written(reason="a=" * 500_000)["reason"] == "a=" * (log.MAX_TEXT_CHARS // 2) + "… <1000000 chars>"
    hidden = written(reason="key=" + "a" * 1_000_000)["reason"]
    assert hidden == "key=<hidden>… <1000004 chars>"


def test_a_peer_cannot_steer_the_terminal_or_forge_a_line() -> None:
    evil = "a\x1b[2J\r\n{}\u202e\udcff"
    for form in ("json", "pretty"):
        stream = start(Terminal(), format=form)
        log.get("linguad.test").info("event", reason=evil, **{"na\x1bme": {"\n": 1}})
        assert stream.getvalue().count("\n") == 1
        assert "[2J" in stream.getvalue()
        for char in "\r\u202e\udcff":
            assert char not in stream.getvalue()
        assert "\x1b[2J" not in stream.getvalue()
        stream.getvalue().encode("utf-8")


def test_exceptions_have_a_traceback_without_locals() -> None:
    stream = start()
    hidden = SECRET * 2
    try:
        try:
            int(len(hidden) * "x")
        except ValueError as error:
            raise ExceptionGroup("two", [error, ValueError("y" * 10_000)]) from None
    except ExceptionGroup:
        log.get("linguad.test").exception("crashed")
    (line,) = lines(stream)
    text = str(line["exception"])
    assert line["level"] == "error"
    assert "test_log.py" in text
    assert "ExceptionGroup: two" in text
    assert SECRET not in text
    assert max(len(part) for part in text.splitlines()) < log.MAX_TEXT_CHARS + 30
    assert "exc_info" not in line


def test_an_exception_may_be_handed_over() -> None:
    stream = start()
    log.get("linguad.test").error("crashed", exc_info=ValueError("given"))
    log.get("linguad.test").error("crashed", exc_info=False)
    first, second = lines(stream)
    assert first["exception"] == "ValueError: given"
    assert "exception" not in second


def test_long_tracebacks_are_cut() -> None:
    def descend(depth: int) -> None:
        if depth:
            odd(depth)
        else:
            raise ValueError("bottom")

    def odd(depth: int) -> None:
        descend(depth - 1)

    stream = start()
    try:
        descend(150)
    except ValueError:
        log.get("linguad.test").exception("crashed")
    parts = str(lines(stream)[0]["exception"]).splitlines()
    assert len(parts) == log.MAX_TRACEBACK_LINES + 1
    assert parts[-1] == "ValueError: bottom"
    assert any("lines left out" in part for part in parts)


def test_levels_hold_for_packages_and_all_below() -> None:
    stream = start(
        level="warning", levels={"core": "debug", "linguad.net.outbox": "info", "hypercorn": "info"}
    )
    for name in ("linguad.core.job", "linguad.net.outbox", "linguad.net.front", "linguad"):
        log.get(name).debug("debug")
        log.get(name).info("info")
        log.get(name).warning("warning")
    assert Counter(str(line["logger"]) for line in lines(stream)) == {
        "linguad.core.job": 3,
        "linguad.net.outbox": 2,
        "linguad.net.front": 1,
        "linguad": 1,
    }
    logging.getLogger("hypercorn.error").info("shown")
    assert lines(stream)[-1]["logger"] == "hypercorn.error"


def test_a_new_set_up_replaces_the_old_one() -> None:
    first = start(levels={"core": "debug"})
    second = start()
    log.get("linguad.core").debug("hidden")
    log.get("linguad.core").info("event")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["event"]


def test_libraries_are_heard_from_warning_on() -> None:
    stream = start(level="debug")
    logging.getLogger("trio-websocket").info("hidden")
    logging.getLogger("hypercorn.error").warning("said %s", "x" * 1000)
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["level"]) == ("library_message", "hypercorn.error", "warning")
    assert str(line["message"]).startswith("said xxx")
    assert len(str(line["message"])) < 600


def test_a_bad_message_of_a_library_does_not_harm_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = start()
    # The handlers of pytest raise on purpose.
    ours = [handler for handler in logging.root.handlers if type(handler).__module__ == log.__name__]
    monkeypatch.setattr(logging.root, "handlers", ours)
    logging.getLogger("hypercorn.error").warning("%d", "no number")
    assert stream.getvalue() == ""
    assert "TypeError" in capsys.readouterr().err


def test_unconfigured_programs_hear_warnings_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[logging.LogRecord] = []

    class Plain(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    handler = Plain()
    logging.getLogger("linguad").addHandler(handler)
    try:
        log.get("linguad.test").info("hidden")
        log.get("linguad.test").warning("event", token=SECRET)
    finally:
        logging.getLogger("linguad").removeHandler(handler)
    (record,) = seen
    assert "event" in str(record.msg)
    assert SECRET not in str(record.__dict__)


@pytest.mark.parametrize(
    ("form", "stream", "pretty"),
    [
        ("auto", Terminal(), True),
        ("auto", io.StringIO(), False),
        ("pretty", io.StringIO(), True),
        ("json", Terminal(), False),
    ],
)
def test_form_follows_the_setting_and_the_terminal(form: str, stream: io.StringIO, pretty: bool) -> None:
    start(stream, format=form)
    log.get("linguad.test").info("event", n=1)
    try:
        raise ValueError("why")
    except ValueError:
        log.get("linguad.test").exception("crashed")
    assert stream.getvalue().startswith("{") is not pretty
    assert ("\x1b[" in stream.getvalue()) is (pretty and stream.isatty())
    assert "ValueError: why" in stream.getvalue()


def test_the_journal_is_told_how_grave_a_line_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = socket.socketpair()
    with ours, its, ours.makefile("w") as stream:
        for named, marks in ((True, ["<7>", "<6>", "<4>", "<3>", "<2>"]), (False, [""] * 5)):
            status = os.fstat(ours.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + (not named)}")
            start(stream, level="debug")
            for level in ("debug", "info", "warning", "error", "critical"):
                getattr(log.get("linguad.test"), level)("event")
            lines = its.recv(65536).decode().splitlines()
            assert [line.partition("{")[0] for line in lines] == marks
            log.reset()


def test_standard_output_is_looked_up_at_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(config.Log(format="json"))
    log.get("linguad.test").info("event")
    assert json.loads(capsys.readouterr().out)["event"] == "event"


def test_earlier_settings_are_announced() -> None:
    stream = io.StringIO()
    notices = [log.Notice(source="RUST_LOG"), log.Notice(source="LOG_FORMAT", problem="log.format is set")]
    log.configure(config.Log(format="json"), notices, stream)
    assert [(line["event"], line["source"], line["used"], line["reason"]) for line in lines(stream)] == [
        ("setting_deprecated", "RUST_LOG", True, ""),
        ("setting_deprecated", "LOG_FORMAT", False, "log.format is set"),
    ]


class TestFile:
    def test_gets_every_line_as_json_and_its_directory(self, tmp_path: Path) -> None:
        path = tmp_path / "logs" / "linguad.log"
        stream = start(format="pretty", file=str(path))
        log.get("linguad.test").info("event", reason="Grüße 你好")
        assert json.loads(path.read_text())["reason"] == "Grüße 你好"
        assert not stream.getvalue().startswith("{")

    def test_is_rotated_and_so_many_are_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "linguad.log"
        log.configure(config.Log(file=str(path), rotate_bytes=1000, keep=2), stream=io.StringIO())
        for number in range(100):
            log.get("linguad.test").info("event", number=number)
        names = sorted(entry.name for entry in tmp_path.iterdir())
        assert names == ["linguad.log", "linguad.log.1", "linguad.log.2"]
        assert all(entry.stat().st_size <= 1000 for entry in tmp_path.iterdir())
        newest = [
            json.loads(line)["number"]
            for name in names[::-1]
            for line in (tmp_path / name).read_text().splitlines()
        ]
        assert newest == list(range(newest[0], 100))

    def test_is_opened_anew_after_somebody_moved_it(self, tmp_path: Path) -> None:
        path = tmp_path / "linguad.log"
        start(file=str(path))
        log.get("linguad.test").info("before")
        path.rename(tmp_path / "moved")
        log.get("linguad.test").info("between")
        start(file=str(path))
        log.get("linguad.test").info("after")
        assert [json.loads(line)["event"] for line in (tmp_path / "moved").read_text().splitlines()] == [
            "before",
            "between",
        ]
        assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["after"]

    def test_stays_in_use_if_it_cannot_be_opened_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "linguad.log"
        stream = start(file=str(path))
        path.rename(tmp_path / "moved")
        path.mkdir()
        with pytest.raises(ConfigError):
            start(file=str(path))
        log.get("linguad.test").info("after")
        expected = ["after"]
        assert [line["event"] for line in lines(stream)] == expected
        assert [
            json.loads(line)["event"] for line in (tmp_path / "moved").read_text().splitlines()
        ] == expected

    def test_that_cannot_be_opened_is_a_configuration_error(self, tmp_path: Path) -> None:
        stream = start()
        (tmp_path / "file").touch()
        for wrong in (tmp_path, tmp_path / "file" / "below", Path("~no-such-user/x")):
            with pytest.raises(ConfigError) as caught:
                start(file=str(wrong))
            assert caught.value.problems[0][0] == "log.file"
            assert str(wrong) in caught.value.problems[0][1]
        log.get("linguad.test").info("event")
        assert [line["event"] for line in lines(stream)] == ["event"]

    def test_a_closed_output_does_not_stop_the_program(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "linguad.log"
        stream = start(file=str(path))
        stream.close()
        log.get("linguad.test").info("event")
        assert json.loads(path.read_text())["event"] == "event"
        assert "closed file" in capsys.readouterr().err


LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception"})
OTHER_WAYS = frozenset({"log", "msg", "warn", "err", "fatal", "failure"})


def events_in(source: str, path: Path = Path("given")) -> tuple[set[str], list[str]]:
    """Names of the events that a module logs, and what is wrong with its calls.

    A logger is what `log.get(...)` or `bind(...)` gave, or any name that ends in `logger`.
    """
    tree = ast.parse(source, path)
    loggers = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _makes_logger(node.value):
            loggers |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign) and node.value is not None and _makes_logger(node.value):
            loggers.add(ast.unparse(node.target))

    def is_logger(node: ast.expr) -> bool:
        text = ast.unparse(node)
        return text in loggers or _makes_logger(node) or text.split(".")[-1].lower().endswith("logger")

    events, wrong = set(), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        shown = f"line {node.lineno}: {ast.unparse(node)[:80]}"
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and is_logger(node.args[0]):
            wrong.append(f"{shown}: the level is not literal")
        if not isinstance(node.func, ast.Attribute):
            continue
        owner, method = node.func.value, node.func.attr
        if ast.unparse(owner) == "logging" and method in LEVELS | OTHER_WAYS:
            wrong.append(f"{shown}: use log.get(__name__)")
        elif is_logger(owner) and method in OTHER_WAYS:
            wrong.append(f"{shown}: use a level")
        elif is_logger(owner) and method in LEVELS:
            match node.args:
                case [ast.Constant(value=str(name))] if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
                    events.add(name)
                case _:
                    wrong.append(f"{shown}: the event is not one literal snake_case name")
    return events, wrong


def _makes_logger(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr="get")):
            return True
        case ast.Call(func=ast.Attribute(value=owner, attr="bind")):
            return _makes_logger(owner) or "log" in ast.unparse(owner).lower()
    return False


def events_documented(page: str) -> list[str]:
    table = page.partition("\n## Events\n")[2]
    return re.findall(r"^\| `(\w+)` \| .{10,} \|$", table, flags=re.MULTILINE)


def events_logged() -> dict[Path, tuple[set[str], list[str]]]:
    return {path: events_in(path.read_text(), path) for path in sorted((ROOT / "linguad").rglob("*.py"))}


def test_every_event_has_a_literal_name() -> None:
    wrong = {str(path.relative_to(ROOT)): bad for path, (_, bad) in events_logged().items() if bad}
    assert wrong == {}


def test_every_event_has_its_line_in_the_docs_and_every_line_its_event() -> None:
    documented = events_documented((ROOT / "docs/logging.md").read_text())
    # Messages of libraries get their event in `log.py` itself, not by a call.
    logged = {name for names, _ in events_logged().values() for name in names} | {"library_message"}
    assert logged - set(documented) == set(), "add a line to docs/logging.md"
    assert set(documented) - logged == set(), "take the line out of docs/logging.md"
    assert documented == sorted(set(documented)), "one line each, in alphabetical order"


def test_the_search_for_events_finds_them() -> None:
    source = """
logger = log.get(__name__)
logger.info("plain", n=1)
class A:
    def __init__(self):
        self._events = logger.bind(session=1)
        self.logger.error("by_name")
        self._events.warning("by_assignment")
        logger.bind(a=1).exception("chained")
    def b(self, parser, name):
        parser.error("not ours")
        math.log(2)
"""
    assert events_in(source) == ({"plain", "by_name", "by_assignment", "chained"}, [])


@pytest.mark.parametrize(
    "call",
    [
        "logger.info(name)",
        "logger.info(f'a_{name}')",
        "logger.info('Two words')",
        "logger.info('a', 'b')",
        "logger.info(event='a')",
        "logger.info()",
        "logger.log(20, 'a')",
        "getattr(logger, level)('a')",
        "logging.warning('a')",
        "self._logger.info(name)",
    ],
)
def test_the_search_for_events_finds_what_is_wrong(call: str) -> None:
    events, wrong = events_in(f"logger = log.get(__name__)\n{call}")
    assert events == set()
    assert len(wrong) == 1


def test_settings_table_fits_what_configure_asks_for() -> None:
    settings: log.Settings = config.Log()
    assert isinstance(settings.levels, Mapping)
