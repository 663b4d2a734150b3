"""The models of the reference node's engines: had from the hub, told to the scheduler, kept while in use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from linguad import log
from linguad.errors import EngineError
from linguad.models.errors import ModelError, ModelNotAvailableError, NoPreviousVersionError
from linguad.models.inventory import inventory
from linguad.models.manager import ModelManager
from linguad.models.names import Key
from linguad.models.progress import Changed
from linguad.wire.language import normalize
from linguad.wire.node import InstalledModel, JobAssign
from linguad.worker.engines import NEEDS
from linguad.worker.engines.base import Kind
from linguad.worker.pipeline import Lack, Pipeline, SpeechFormat
from linguad.worker.process import EngineProcess
from linguad.worker.runner import Offer, Outcome, Runner

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 5.0, 300.0
"""Pause before a hub that did not give a model is asked again, doubled each time."""

logger = log.get(__name__)


class Supply:
    """Brings engines their models. Mutable state: the engines that run, and what is still missing."""

    def __init__(self, manager: ModelManager, request_seconds: float, problems: list[str]) -> None:
        """Why an engine does not work in the end is appended to `problems`."""
        self._problems = problems
        self._engines: list[EngineProcess] = []
        self._manager = manager
        self._request_seconds = request_seconds
        self._waiting: set[str] = set()
        self._in_use: dict[str, Key] = {}
        self.changed: Callable[[], object] = lambda: None
        """Called when what the node can do has changed."""

    def is_here(self, name: str) -> bool:
        """Whether an engine's model is on the disk and whole."""
        try:
            self._manager.path(NEEDS[name].model_id)
        except ModelNotAvailableError:
            return False
        return True

    def pipeline(self, engines: Sequence[EngineProcess], speech_format: SpeechFormat) -> Pipeline:
        """A runner with these engines and those that the models make possible, then and later."""
        self._engines.extend(engines)
        return Pipeline(self._engines, speech_format, lacks=self.lacks, models=self.models)

    def models(self) -> list[InstalledModel]:
        """What registration and heartbeats tell."""
        return inventory(self._manager)

    def count(self, job: JobAssign) -> None:
        """Note which models a job that was done has used."""
        src, tgt = normalize(job.src_lang), normalize(job.tgt_lang)
        used = {
            Kind.ASR: {src} if job.pipeline.use_asr else None,
            Kind.NMT: {src, tgt} if job.pipeline.use_nmt else None,
            Kind.TTS: {tgt} if job.pipeline.use_tts else None,
        }
        for name, one in self._in_use.items():
            languages = used[NEEDS[name].kind]
            if languages is not None and languages <= set(NEEDS[name].languages):
                self._manager.usage.note("request", one)

    def lacks(self) -> list[Lack]:
        """The models that engines wait for."""
        return [self._lack(name) for name in sorted(self._waiting)]

    def _lack(self, name: str) -> Lack:
        need = NEEDS[name]
        try:
            version = self._manager.path(need.model_id).name
        except ModelNotAvailableError as error:
            return Lack(need.kind, need.languages, need.model_id, error.version, error.reason)
        # It is here, and the engine is about to read it.
        return Lack(need.kind, need.languages, need.model_id, version, "verifying")

    async def bring(self, name: str, settled: trio.Event) -> None:
        """Have an engine's model, start the engine with it, and keep the model from being removed.

        Asks the hub until it gives the model; `settled` is set when the engine works or it is clear that this
        takes longer. Ends only if the engine does not work with any version there is.
        """
        self._waiting.add(name)
        model_id = NEEDS[name].model_id
        pause = FIRST_PAUSE_SECONDS
        refused: set[str] = set()
        try:
            while True:
                try:
                    if not await self._try(name, settled, refused):
                        return
                except ModelError as error:
                    logger.warning(
                        "model_missing", engine=name, model=model_id, reason=str(error), retry_in_s=pause
                    )
                    settled.set()
                    await trio.sleep(pause)
                    pause = min(2 * pause, LAST_PAUSE_SECONDS)
        finally:
            self._waiting.discard(name)
            settled.set()

    async def _try(self, name: str, settled: trio.Event, refused: set[str]) -> bool:
        """Have the model and run the engine with it until cancelled.

        If the engine does not start, whether another try makes sense. Raises ModelError.
        """
        model_id = NEEDS[name].model_id
        path = await self._manager.ensure(model_id)
        if model_id not in self._manager.active():
            await self._manager.keeper.activate(model_id, path.name, "first use")
        try:
            await self._use(name, settled)
        except EngineError as error:
            logger.warning("engine_unusable", engine=name, reason=str(error))
            if await self._mended(model_id, refused):
                return True
            self._problems.append(str(error))
        return False

    async def _use(self, name: str, settled: trio.Event) -> None:
        """Run an engine with its model until cancelled. Raises EngineError if it does not start."""
        model_id = NEEDS[name].model_id
        async with self._manager.lease(model_id) as path, trio.open_nursery() as nursery:
            engine = EngineProcess(name, request_seconds=self._request_seconds, model=path, model_id=model_id)
            try:
                await nursery.start(engine.serve)
            except EngineError as error:
                problem = error
            else:
                self._in_use[name] = Key(model_id, path.name)
                self._manager.usage.note("load", self._in_use[name])
                self._waiting.discard(name)
                # Before the others: what the hub gives is preferred to what is older.
                self._engines.insert(0, engine)
                self.changed()
                settled.set()
                await trio.sleep_forever()
        raise problem

    async def _mended(self, model_id: str, refused: set[str]) -> bool:
        """Whether a try with other files makes sense: a damaged version is fetched anew, a bad one left.

        `refused` are the versions that were whole and did not work.
        """
        pointer = self._manager.active().get(model_id)
        if pointer is None or await self._manager.keeper.settle(Key(model_id, pointer.version)) is not None:
            return True
        refused.add(pointer.version)
        if pointer.previous in refused:
            return False
        try:
            await self._manager.keeper.rollback(model_id, f"no engine works with {pointer.version}")
        except NoPreviousVersionError:
            return False
        return True

    async def watch(self) -> None:
        """Call `changed` whenever a model can or cannot be used any more; until cancelled."""
        with self._manager.events.listen(Changed) as events:
            async for _ in events:
                self.changed()


class Considerate:
    """A runner that holds downloads back while all slots of the node are taken, and counts use of models."""

    def __init__(self, runner: Runner, manager: ModelManager, supply: Supply, max_jobs: int) -> None:
        self._runner = runner
        self._supply = supply
        self._gate = manager.gate
        self._max_jobs = max_jobs
        self._running = 0

    def offer(self) -> Offer:
        """As the runner's."""
        return self._runner.offer()

    async def run(self, job: JobAssign) -> Outcome:
        """As the runner's."""
        self._running += 1
        if self._running >= self._max_jobs:
            self._gate.close()
        try:
            outcome = await self._runner.run(job)
            self._supply.count(job)
            return outcome
        finally:
            self._running -= 1
            if self._running < self._max_jobs:
                self._gate.open()
