"""`linguad node --simulate N`: a fleet in one process, for rehearsals (docs/testing.md)."""

from __future__ import annotations

import argparse
from collections import Counter

import trio
from rich.console import Console

from linguad.net.supervise import watch_signals
from linguad.worker import profile
from linguad.worker.agent import Agent, scheduler_at
from linguad.worker.profile import Profile
from linguad.worker.simulated import simulated_node

ARRIVALS_PER_S = 100
"""Nodes that connect in a second: a fleet does not come in one moment."""

PREFIX = "sim"
"""What ids begin with, unless one is given."""

TOLD = {
    "answered": "jobs answered",
    "empty": "without speech",
    "failed": "failed",
    "silent": "never answered",
    "lost": "connections lost",
}


def run(args: argparse.Namespace, hard_stop_s: float) -> int:
    """Be a fleet until SIGTERM or SIGINT. Raises ConfigError if the profile cannot be used."""
    fleet = profile.USUAL if args.profile is None else profile.read(args.profile)
    trio.run(_serve, args, fleet, hard_stop_s, restrict_keyboard_interrupt_to_checkpoints=True)
    return 0


async def _serve(args: argparse.Namespace, fleet: Profile, hard_stop_s: float) -> None:
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    agents: list[Agent] = []
    dial = scheduler_at(args.server)
    for kind, number, speed in fleet.fleet(args.simulate):
        kinds[kind.name] += 1
        name = f"{args.node_id or PREFIX}-{kind.name}-{number:04}"
        agents.append(simulated_node(name, kind, speed, fleet.chance(name), dial, counts))
    console = Console(highlight=False, soft_wrap=True)
    of_kinds = ", ".join(f"{count} {name}" for name, count in kinds.items())
    console.print(f"{len(agents)} simulated nodes ({of_kinds}) for {args.server}; ^C ends them")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, stop, hard_stop_s)
        async with trio.open_nursery() as nodes:
            for agent in agents:
                if stop.is_set():
                    break
                nodes.start_soon(agent.run, stop)
                await trio.sleep(1 / ARRIVALS_PER_S)
        nursery.cancel_scope.cancel()
    console.print(", ".join(f"{counts[name]} {what}" for name, what in TOLD.items()))
