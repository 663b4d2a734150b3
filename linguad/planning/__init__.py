"""Capacity planning: a queueing model of a fleet around the real choice of nodes (docs/planning.md)."""
