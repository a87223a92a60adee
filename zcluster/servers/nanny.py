"""The nanny: the one process of a node that owns its sockets and its results.

It runs the node core, starts workers and watches them, and never runs user code.
Like the scheduler's server, this file moves events in and effects out and decides
nothing:

* a DEALER to the scheduler (a `Link` with its session),
* a ROUTER on ``ipc://`` for the workers,
* the data port for other nodes and clients, and a `Fetcher` for the other way,
* the door, which hands the store's descriptors to workers and clients of this host,
* the crew of worker processes.

A nanny that was fenced starts over as a fresh incarnation, with an empty store.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import zmq

from zcluster.config import configure_logging
from zcluster.core.node.core import NodeCore
from zcluster.core.node.pausing import RETIRING
from zcluster.core.node.records import Effects, NodeSettings, Result, WorkerEnd, WorkerRecord
from zcluster.errors import (
    AuthenticationFailed,
    InvariantError,
    ProtocolError,
    SchedulerLost,
    StartError,
)
from zcluster.protocol.conversation import DENIED
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    PROTOCOL,
    SCHEDULER_TO_NODE,
    WORKER_TO_NODE,
    Environment,
    Files,
    Heartbeat,
    Hello,
    Message,
    NodeInfo,
    Welcome,
    WorkerHello,
)
from zcluster.servers.crew import KILLED, Crew, WorkerStarter
from zcluster.servers.dataport import DataPort
from zcluster.servers.fetching import Fetcher
from zcluster.servers.files import FILES, write_files
from zcluster.servers.memory import StoreMemory, open_disk
from zcluster.servers.pressure import Pressure
from zcluster.servers.settings import NannySettings
from zcluster.servers.template_client import Template
from zcluster.storage.door import Door, DoorConnection
from zcluster.storage.spill import DiskHelper, SpillFolder
from zcluster.transport import lifeline
from zcluster.transport.link import RECEIVE_BURST, Link, send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.scratch import ipc_address
from zcluster.transport.sockets import check_address, has_input, monitor, socket, take_events
from zcluster.types import Buffer, Frames
from zcluster.version import __version__

__all__ = ["Nanny"]

_log = logging.getLogger(__name__)
#: How often batches are looked at that may be stuck.
_TICK = 0.02
#: A nanny lives so long without its scheduler, unless told otherwise.
_ALONE = 10.0
#: Seconds that the last words of a worker that was told to end may be on their way.
_LAST_WORDS = 0.5
_FENCED = "the session"
#: Seconds between two sentences about strangers.
_TELL_EVERY = 10.0


class Nanny:
    """A node's nanny, for one or more incarnations.

    Parameters
    ----------
    settings : NannySettings
    template : callable
        Makes what workers are started by.
    """

    def __init__(
        self, settings: NannySettings, template: Callable[[], WorkerStarter] = Template
    ) -> None:
        if settings.log_level:
            configure_logging(settings.name, settings.log_level)
        for address in (settings.scheduler, settings.data_address):
            check_address(address, settings.insecure, settings.keys is not None)
        self._settings = settings
        self._template = template
        self._loop = Loop()
        self._context: zmq.Context[Any] = zmq.Context()
        self._stopped = False
        if settings.lifeline is not None:
            lifeline.watch(self._loop, settings.lifeline, self.stop)

    def run(self) -> None:
        """Serve until `stop`.

        Raises
        ------
        StartError
            If the scheduler does not answer in time, or refuses this node.
        SchedulerLost
            If it is gone later.
        """
        try:
            while not self._stopped:
                incarnation = _Incarnation(
                    self._settings, self._loop, self._context, self._template
                )
                try:
                    self._loop.run()
                finally:
                    incarnation.close()
                if self._stopped or not incarnation.lost:
                    return
                if not incarnation.lost.startswith(_FENCED):
                    kind = SchedulerLost if incarnation.was_welcome else StartError
                    if incarnation.lost.startswith(DENIED):
                        kind = AuthenticationFailed
                    raise kind(f"node {self._settings.name}: {incarnation.lost}")
                _log.warning("%s; starting over", incarnation.lost)
                self._loop.resume()
        finally:
            self._loop.close()
            self._context.destroy(0)

    def stop(self) -> None:
        """Make `run` return; safe from a signal handler and from other threads."""
        self._stopped = True
        self._loop.stop()


def _new_core(settings: NannySettings, names: list[str], memory: StoreMemory) -> NodeCore:
    """Return the core of a node whose workers have these names."""
    workers = [
        WorkerRecord(
            number,
            name,
            settings.threads,
            settings.memory_limit,
            resources=dict(settings.resources),
        )
        for number, name in enumerate(names)
    ]
    target = int(settings.memory.target * settings.workers * settings.memory_limit)
    return NodeCore(settings.name, workers, memory, NodeSettings(target=target))


class _Incarnation:
    """One life of a node: from a hello to a goodbye, or to being fenced."""

    def __init__(
        self,
        settings: NannySettings,
        loop: Loop,
        context: zmq.Context[Any],
        template: Callable[[], WorkerStarter],
    ) -> None:
        self.lost = ""
        self.was_welcome = False
        self._is_closed = False
        self._settings = settings
        self._loop = loop
        self._context = context
        self._id = os.urandom(16)
        #: What was refused on the workers' socket, what of all was told, and when.
        self._refused = 0
        self._told_refused = 0
        self._told_at = -_TELL_EVERY
        self._worker_decoder = Decoder(WORKER_TO_NODE)
        #: Routing id of each worker's socket; it names the incarnation.
        self._routes: dict[bytes, tuple[int, int]] = {}
        self._route_of: dict[int, bytes] = {}
        #: Processes that have come through the door.
        self._identities: set[bytes] = set()
        self._door_fds: set[int] = set()
        #: What `close` does, last first.
        self._exits = ExitStack()
        try:
            self._open(settings, template)
        except BaseException as error:
            self._exits.close()
            if isinstance(error, OSError):
                raise StartError(
                    f"node {settings.name} cannot use its folder {settings.scratch} or its "
                    f"address {settings.data_address}: {error.strerror or error}"
                ) from error
            raise

    def _open(self, settings: NannySettings, template: Callable[[], WorkerStarter]) -> None:
        loop = self._loop
        names = [f"{settings.name}-{number}" for number in range(settings.workers)]
        disk = self._open_disk(settings)
        self._memory = StoreMemory(settings.store_limit, self._on_slab, disk)
        self._exits.callback(self._memory.close)
        self._disk = None if disk is None else DiskHelper(disk, self._on_disk_done)
        if self._disk is not None:
            self._exits.callback(self._disk.close)
        self._core = _new_core(settings, names, self._memory)
        # First of all: the template takes longest to start.
        self._crew = Crew(
            loop,
            names,
            node=settings.name,
            threads=settings.threads,
            address=ipc_address(settings.scratch / "workers"),
            door=settings.scratch / "door",
            scheduler=settings.scheduler,
            keys=settings.keys,
            on_end=self._on_worker_end,
            template=template,
        )
        self._exits.callback(self._crew.close)
        self._pressure = Pressure(loop, self._core, self._crew, settings.memory)
        self._exits.callback(self._pressure.close)
        self._open_to_workers(settings.scratch)
        for number in range(settings.workers):
            self._crew.start(number)
        self._open_to_others(settings)
        loop.on_idle.append(self._flush)
        self._exits.callback(loop.on_idle.remove, self._flush)
        self._timer = loop.call_later(_TICK, self._tick)
        self._exits.callback(lambda: self._timer.cancel())

    def _open_to_workers(self, scratch: Path) -> None:
        """Listen to the node's own workers: at the door of its store, and at their socket."""
        loop, exits = self._loop, self._exits
        self._door = Door(str(scratch / "door"))
        exits.callback(self._door.close)
        loop.add_fd(self._door.fileno(), self._on_door)
        exits.callback(loop.remove, self._door.fileno())
        exits.callback(self._unwatch_door)
        self._workers = socket(self._context, zmq.ROUTER, heartbeat=False)
        exits.callback(self._workers.close, 0)
        self._workers.bind(ipc_address(scratch / "workers"))
        loop.add_socket(self._workers, self._on_workers)
        exits.callback(loop.remove, self._workers)
        self._workers_monitor = monitor(self._workers)
        exits.callback(self._workers_monitor.close, 0)
        exits.callback(self._workers.disable_monitor)
        loop.add_socket(self._workers_monitor, self._on_workers_event)
        exits.callback(loop.remove, self._workers_monitor)

    def _open_to_others(self, settings: NannySettings) -> None:
        """Listen to other nodes and to clients, and connect to the scheduler."""
        loop, context = self._loop, self._context
        keys = settings.keys
        self._data = DataPort(loop, context, settings.data_address, self._core, self._memory, keys)
        self._exits.callback(self._data.close)
        self._fetcher = Fetcher(
            loop,
            context,
            self._memory,
            self._core.room,
            self._core.nodes,
            self._on_fetched,
            self._on_unfetched,
            keys,
        )
        self._exits.callback(self._fetcher.close)
        self._link = self._connect(settings)
        self._exits.callback(lambda: self._link.close(goodbye=not self.lost))

    def _connect(self, settings: NannySettings) -> Link:
        alone = settings.death_timeout
        return Link(
            self._loop,
            self._context,
            settings.scheduler,
            hello=self._hello,
            accepts=SCHEDULER_TO_NODE,
            on_message=self._on_message,
            on_welcome=self._on_welcome,
            on_lost=self._on_lost,
            timeout=float("inf") if alone is None else alone,
            grace=_ALONE if alone is None else min(alone, _ALONE),
            patience=3 * _ALONE,
            beat=self._beat,
            keys=settings.keys,
            role="node",
        )

    def close(self) -> None:
        """Say goodbye, end the workers, give back the memory."""
        self._is_closed = True
        self._exits.close()

    # ---------------------------------------------------------------------- scheduler

    def _hello(self, token: bytes, seen: int) -> Hello:
        settings = self._settings
        info = NodeInfo(
            0,
            settings.name,
            settings.host,
            os.getpid(),
            self._data.address,
            str(settings.scratch / "door"),
            settings.store_limit,
            self._core.worker_infos(),
        )
        return Hello(
            "node", PROTOCOL, __version__, platform.python_version(), self._id, token, seen, info
        )

    def _on_welcome(self, message: Welcome) -> None:
        self.was_welcome = True
        for info in message.nodes:
            self._core.nodes[info.index] = info

    def _on_message(self, message: Message, frames: Frames) -> None:
        if isinstance(message, Environment) and message.host != self._settings.host:
            return  # paths of another host
        if isinstance(message, Files):
            error = write_files(self._settings.scratch / FILES, message, frames)
            self._core.on_files(message, error, self._loop.now())
            return
        self._core.on_message(message, frames, self._loop.now())

    def _on_lost(self, reason: str) -> None:
        self.lost = reason
        self._loop.stop()

    def _beat(self, lag: float) -> Heartbeat:
        made = [worker.made for worker in self._core.workers.values()]
        memory = self._memory
        silent = [round(self._crew.silence(number), 1) for number in self._core.workers]
        own = self._pressure.memory()
        sent = self._data.sent_bytes
        return Heartbeat(lag, memory.used, own, made, memory.spilled, silent, sent)

    # ------------------------------------------------------------------------ workers

    def _on_workers(self) -> None:
        for _ in range(RECEIVE_BURST):
            if not has_input(self._workers):
                return
            frames: list[bytes] = self._workers.recv_multipart(zmq.NOBLOCK)
            try:
                if len(frames) < 2:
                    raise ProtocolError("a message without a control frame")
                self._hear_worker(frames[0], self._worker_decoder.decode(frames[1]), frames[2:])
            except InvariantError:
                raise
            except Exception as error:
                # Not only what breaks the protocol: user code may do anything to a worker,
                # and what a broken one says must not end the node.
                self._refused += 1
                known = self._routes.get(frames[0])
                if known is not None:
                    _log.warning(
                        "killing worker %d, which speaks nonsense: %r",
                        known[0],
                        error,
                        exc_info=not isinstance(error, ProtocolError),
                    )
                    self._crew.kill(known[0])

    def _hear_worker(self, route: bytes, message: Message, frames: list[bytes]) -> None:
        known = self._routes.get(route)
        if known is None:
            if not isinstance(message, WorkerHello):
                raise ProtocolError(f"a stranger's {type(message).__name__}")
            self._meet_worker(route, message)
            return
        number, incarnation = known
        if self._crew.is_heard(number, incarnation):
            self._core.on_worker(number, message, frames, self._loop.now())

    def _meet_worker(self, route: bytes, message: WorkerHello) -> None:
        number, incarnation = message.number, message.incarnation
        current = self._crew.incarnation(number)
        if not current or incarnation != current:
            return  # of a start that is over
        if number in self._route_of:
            raise ProtocolError(f"a second hello of worker {number}")
        self._routes[route] = (number, incarnation)
        self._route_of[number] = route
        self._core.on_worker_ready(number, message.pid, incarnation, self._loop.now())
        self._pressure.started(number)

    def _on_workers_event(self) -> None:
        self._refused += take_events(self._workers_monitor)[1]

    def _on_worker_end(self, end: WorkerEnd) -> None:
        end = self._pressure.judged(end, end.cause in KILLED)
        # What it still said before its end counts: its results need not be made again.
        if not self._workers.closed:
            self._on_workers()
            self._hear_out(end)
        route = self._route_of.pop(end.number, None)
        if route is not None:
            self._routes.pop(route, None)
        if end.incarnation != self._core.workers[end.number].incarnation:
            # It never said hello: nothing was sent there.
            self._core.workers[end.number].incarnation = end.incarnation
        self._core.on_worker_end(end, self._loop.now())

    def _hear_out(self, end: WorkerEnd) -> None:
        """Wait for the last words of a worker that has ended as it was told: they are sent.

        Its end is known at once, what it said comes through ZeroMQ's thread.
        """
        worker = self._core.workers[end.number]
        until = self._loop.now() + _LAST_WORDS
        while (
            RETIRING in worker.pauses and not end.running and any(b.tasks for b in worker.batches)
        ):
            left = until - self._loop.now()
            if left <= 0 or not self._workers.poll(int(1000 * left) + 1):
                return
            self._on_workers()

    # --------------------------------------------------------------------------- store

    def _on_slab(self, slab: int, fd: int) -> None:
        for identity in self._identities:
            self._door.send_descriptor(identity, slab, fd)

    def _on_door(self) -> None:
        for connection in self._door.accept_ready():
            self._watch_door(connection)

    def _watch_door(self, connection: DoorConnection) -> None:
        fd = connection.fileno()

        def ready() -> None:
            alive = connection.ready()
            for identity in self._door.arrived:
                self._identities.add(identity)
                for slab, descriptor in self._memory.descriptors():
                    self._door.send_descriptor(identity, slab, descriptor)
            self._door.arrived.clear()
            if not alive:
                self._loop.remove(fd)
                self._door_fds.discard(fd)
            for identity in self._door.closed:
                self._identities.discard(identity)
                self._memory.drop_holder(identity)
            self._door.closed.clear()

        self._loop.add_fd(fd, ready)
        self._door_fds.add(fd)

    def _unwatch_door(self) -> None:
        for fd in self._door_fds:
            self._loop.remove(fd)

    def _open_disk(self, settings: NannySettings) -> SpillFolder | None:
        """Return where results go that memory has no room for, if it is limited."""
        if not settings.memory_limit or not (settings.memory.target or settings.memory.spill):
            return None
        disk, reason = open_disk(settings.local_directory, settings.scratch, settings.spill_limit)
        if disk is None:
            _log.warning(
                "no results go to disk when memory is short: %s; name a folder for them by "
                "--local-directory",
                reason,
            )
        return disk

    def _on_disk_done(self, ticket: int, sums: list[int], error: str, is_full: bool) -> None:
        """The helper did something; in its thread."""

        def tell() -> None:
            if not self._is_closed:
                self._core.on_disk_done(ticket, sums, error, is_full, self._loop.now())

        self._loop.post(tell)

    # ------------------------------------------------------------------------- fetching

    def _on_fetched(self, number: int, result: Result) -> None:
        self._core.on_fetched(number, result, self._loop.now())

    def _on_unfetched(self, number: int, node: int, kind: str, reason: str) -> None:
        self._core.on_unfetched(number, node, self._loop.now(), kind, reason)

    # -------------------------------------------------------------------------- effects

    def _tick(self) -> None:
        now = self._loop.now()
        self._core.on_time(now)
        refused = self._refused + self._data.refused + self._door.refused
        if refused != self._told_refused and now - self._told_at >= _TELL_EVERY:
            self._told_refused, self._told_at = refused, now
            _log.warning(
                "refused so far: %d at the workers' socket, %d at the data port, %d at the door",
                self._refused,
                self._data.refused,
                self._door.refused,
            )
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _flush(self) -> None:
        effects = self._core.flush(self._loop.now())
        for number, message, payload in effects.to_workers:
            self._send_worker(number, message, payload)
        for said, frames in effects.to_scheduler:
            self._link.send(said, frames)
        for order in effects.to_fetch:
            self._fetcher.fetch(order)
        self._use_disk(effects)
        for number in effects.to_start:
            self._crew.start(number)
        for number in effects.to_restart:
            self._crew.restart(number)
        if effects.leave:
            # Neither lost nor stopped: `Nanny.run` returns, and whoever started it lets it be.
            _log.info("node %s was retired", self._settings.name)
            self._loop.stop()

    def _use_disk(self, effects: Effects) -> None:
        for job in effects.to_disk:
            assert self._disk is not None
            if job.source is None:
                self._disk.put(job)
            else:
                self._disk.put(job, self._memory.writable(job.source, job.size))
        for given in effects.room:
            (self._fetcher if given.is_input else self._data).on_room(given)
        for number in effects.opened:
            self._data.opened(number)
        for reason in effects.lost_on_disk:
            _log.error("a result is lost that was on disk: %s", reason)

    def _send_worker(self, number: int, message: Message, payload: list[Buffer]) -> None:
        route = self._route_of.get(number)
        if route is None:
            return
        try:
            send_frames(self._workers, [route, encode(message), *payload])
        except zmq.ZMQError:
            # Its process is ending; the template will say so, and its tasks come back.
            self._crew.kill(number)
