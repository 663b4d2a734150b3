"""Utterances as OpenTelemetry traces, for whoever has a collector (`[tracing]`, extra `tracing`).

    spans     one utterance as spans: which, from when to when, with what attributes
    export    a thread that sends them; the only file that knows OpenTelemetry

Nothing here is imported unless `tracing.enabled` is set.
"""
