"""How long a test waits for what is real: processes, sockets, servers, threads."""

PATIENCE_S = 120.0
"""Only what hangs takes so long, on however busy a machine, s."""
