"""Limits of jobs, as the core wants them: seconds and counts (node-protocol 6.5, 9)."""

from __future__ import annotations

from math import ceil

from msgspec import Struct


class JobRules(Struct, frozen=True, kw_only=True):
    """How long jobs wait and run, how often they are tried, and what is remembered of them."""

    timeout_base_s: float = 60.0
    timeout_factor: float = 0.5
    timeout_min_s: float = 15.0
    timeout_max_s: float = 120.0
    pending_timeout_s: float = 10.0
    failover_max_attempts: int = 3
    max_age_s: float = 150.0
    send_cancel: bool = True
    terminal_retention_s: float = 300.0
    late_result_s: float = 30.0
    max_waiting: int = 10_000
    max_waiting_per_tenant: int = 1_000
    sticky: bool = True
    deferred_release_s: float = 3.0
    lane_idle_s: float = 1800.0

    def running_timeout_s(self, audio_s: float) -> float:
        """Time a node gets for this much audio (node-protocol 6.5)."""
        wanted = ceil(self.timeout_base_s + audio_s * self.timeout_factor)
        return float(min(self.timeout_max_s, max(self.timeout_min_s, wanted)))
