"""Performs what the dispatch core decides."""
