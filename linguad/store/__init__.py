"""What must outlive a restart: tenants, keys, usage, webhooks, jobs; SQLite or PostgreSQL."""
