"""The scheduler's HTTP pages for operators."""
