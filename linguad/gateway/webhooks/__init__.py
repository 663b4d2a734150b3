"""Telling the tenants' own servers what happens (gateway 11.5)."""
