"""Several instances on one Redis: who is there, and letters between them (design 7)."""
