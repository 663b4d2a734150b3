"""Every message of every wire, as msgspec Structs; see `docs/protocol.md` for the reading version.

Rules that hold for all messages (node-protocol 2, session-protocol 2.1): one JSON object per text frame,
`type` selects the message, unknown members are ignored, `null` means absent, absent members are not written.
"""
