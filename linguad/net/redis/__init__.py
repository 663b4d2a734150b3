"""Redis over trio: one link for all tasks, a second that listens, redis-py's commands on top (design 5.7)."""
