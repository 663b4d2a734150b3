"""The public API: REST and WebSocket for other people's apps, with tenants, keys and limits (gateway)."""
