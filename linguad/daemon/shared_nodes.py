"""How this instance shares its nodes with others: the parts that carry jobs and records over Redis."""

from __future__ import annotations

import trio

from linguad.cluster.directory import Directory
from linguad.cluster.remote import Remote
from linguad.cluster.roster import Roster
from linguad.cluster.service import Cluster
from linguad.core.afar import Afar
from linguad.core.guests import Guests
from linguad.dispatch.engine import Engine
from linguad.nodes.serve import Nodes


class SharedNodes:
    """Made once, before the cluster runs; has no state of its own."""

    def __init__(self, cluster: Cluster, engine: Engine, sockets: Nodes) -> None:
        dispatch, peers = engine.dispatch, cluster.peers
        afar = Afar(dispatch)
        guests = Guests(dispatch.fleet, dispatch.placement.rules, dispatch.amnesty)

        def is_alive(instance: str, boot: str) -> bool:
            peer = peers.alive().get(instance)
            return peer is not None and peer.boot == boot

        me = cluster.place.me
        self._roster = roster = Roster(
            me.instance,
            me.boot,
            dispatch,
            afar,
            guests,
            engine,
            sockets,
            is_alive,
            trio.current_time,
        )
        # first, so that it knows whose nodes those were of an instance that is gone
        self._directory = Directory(cluster, roster)
        self._remote = Remote(engine, afar, guests, cluster.bus, peers, trio.current_time)
        engine.join(guests, self._remote)
        cluster.when_up(self._directory.up)
        cluster.when_up(self._remote.up)
        cluster.when_down(self._remote.down)
        # nothing can be asked before Redis was there
        self._remote.down()

    @property
    def age_s(self) -> float:
        """How old what we know of the nodes of others is, s."""
        return self._directory.age_s

    def drain(self) -> None:
        """Our nodes get no new jobs from others."""
        self._roster.everything()

    async def run(self) -> None:
        """Carry jobs and records, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._directory.run)
            nursery.start_soon(self._remote.run)
