"""The API described: `/openapi.json`, and `/docs` for people (gateway 11.9)."""
