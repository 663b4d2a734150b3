"""docs/protocol.md is what the message types say."""

from pathlib import Path

from linguad.wire.page import page

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_protocol_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m linguad.wire.page > docs/protocol.md"
