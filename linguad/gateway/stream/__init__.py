"""`/v1/stream` and `/v1/listen`: people who speak (gateway 6, 8)."""
