"""The reference node: it dials in to a scheduler and works on jobs with CPU engines (docs/worker.md)."""
