"""What was used, what it costs, and what is left (gateway 11.7)."""
