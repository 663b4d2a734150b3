"""`/v1/speech/jobs`: recordings that are translated while nobody waits (gateway 11.6)."""
