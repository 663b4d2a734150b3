"""One instance of linguad, put together from its parts; nothing else knows all of them."""

from linguad.daemon.tree import Daemon

__all__ = ["Daemon"]
