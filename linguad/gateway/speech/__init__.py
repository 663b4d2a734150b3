"""A recording, or a session of the core, from bytes to text and speech (gateway 5, 8)."""
