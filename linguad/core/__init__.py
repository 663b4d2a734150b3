"""Decisions, synchronous: no clock, no sockets, no randomness of their own.

Times (`now`) are monotonic seconds handed in by the shell; what is to be done comes back as a list of
actions.
"""
