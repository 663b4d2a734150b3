"""Processes that benches start beside the daemon."""
