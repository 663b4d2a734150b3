"""Who may call, from where and how often: keys, tickets, origins, limits (gateway 3, 4, 11.4)."""
