"""A worker: the process that runs user code, and nothing else that others depend on.

It is a loop thread, the process's main thread, and one thread per slot. The loop owns
the socket: it turns what the nanny says into batches for the slots, grants and
forgetting, and what the slots put into the outbox into messages. It never runs user
code, so a recall or a grant gets through while all slots are busy (unless user code
holds the interpreter's lock; then everything here waits, and the nanny, a process of
its own, does not care).

There is no session on this link: the nanny is on the same host and the same start of
it as when the worker began, or the worker ends at once.

When results leave. A slot wakes the loop now and then (see `slots`). That is not
enough for results followed by a long task, as nobody knows beforehand that it is
long: so while batches run, the loop looks by itself a few milliseconds later.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from queue import SimpleQueue
from typing import Any

import zmq

from zcluster import config
from zcluster.errors import ProtocolError, StartError
from zcluster.protocol.frames import Decoder, encode, span
from zcluster.protocol.messages import (
    NODE_TO_WORKER,
    Call,
    Called,
    Discard,
    Environment,
    Files,
    Grant,
    Interrupt,
    Message,
    Recall,
    Recalled,
    Return,
    Run,
    Sources,
    Stop,
    WorkerHello,
)
from zcluster.protocol.modules import ModuleSource, install_sources
from zcluster.servers.batches import Batch
from zcluster.servers.calls import WorkerCalls, WorkerView
from zcluster.servers.files import FILES, use_files
from zcluster.servers.forking import WorkerSettings
from zcluster.servers.functions import Functions
from zcluster.servers.interrupts import Interrupts
from zcluster.servers.outbox import Outbox
from zcluster.servers.output import Output
from zcluster.servers.plugins import PLUGINS, Plugins
from zcluster.servers.slot_pool import SlotPool
from zcluster.servers.slots import Slot, Tools
from zcluster.servers.status import StatusPage
from zcluster.servers.threads import default_to_one_thread
from zcluster.servers.values import Values
from zcluster.storage.door import DoorClient
from zcluster.storage.slabs import SlabReader
from zcluster.transport.keys import Keys, remember
from zcluster.transport.link import send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import socket

__all__ = ["EXIT_NANNY_GONE", "Worker", "run_worker"]

#: What a worker process exits with whose nanny is gone.
EXIT_NANNY_GONE = 76

#: Messages taken from the socket in one round of the loop.
_BURST = 64
#: Seconds after which the loop looks for results that no slot has woken it for; twice as
#: many after each look in vain, up to the second figure.
_LOOK, _LOOK_AT_MOST = 0.004, 0.032
#: Seconds after which it looks for leases that have ended.
_LEASES = 0.05
#: Seconds between two signs that the loop answers.
_BEAT = 0.4
#: Seconds until a full socket is tried again.
_RETRY = 0.002
#: Seconds to wait for a descriptor at the door, and to be let in.
_DOOR_TIMEOUT = 60.0
#: Seconds in which a nanny that closes its door kills those who come too late.
_NANNY_ENDING = 0.2
#: Milliseconds the last messages may take to leave.
_LINGER = 2000
#: Seconds after which a thread that wants the interpreter's lock gets it from one that
#: computes: Python's own 5 ms would delay each report of a busy worker by as much.
_SWITCH_INTERVAL = 0.001


class Worker:
    """One worker, in a process of its own or (for a cluster of threads) in a thread.

    Parameters
    ----------
    settings : WorkerSettings
    context : zmq.Context
        Of this process: made after the fork.
    status : StatusPage
        Where slots write what they run.
    is_process : bool
        Whether the process is the worker's own. If not, the import path and the working
        folder are the user's and stay as they are.
    output : Output, optional
        Gathers what tasks print; without it that goes where the process's output goes.

    Raises
    ------
    StartError
        If the settings name a door that cannot be reached.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        context: zmq.Context[Any],
        status: StatusPage,
        *,
        is_process: bool = True,
        output: Output | None = None,
    ) -> None:
        self._is_process = is_process
        self._ending = threading.Lock()
        self._is_over = False
        self._settings = settings
        self._door = (
            DoorClient(settings.door, settings.identity, _DOOR_TIMEOUT) if settings.door else None
        )
        self._loop = Loop()
        self._values = Values(SlabReader(), self._descriptor if self._door is not None else None)
        self._functions = Functions(settings.name)
        self._outbox = Outbox(self._values.returns, self._loop.wake, output)
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._files = os.path.join(os.path.dirname(settings.door), FILES) if settings.door else ""
        if settings.keys:
            remember(settings.scheduler, Keys.from_texts(settings.keys, f"node {settings.node}"))
        view = WorkerView(
            settings.name, settings.node, settings.slots, self._files, settings.scheduler
        )
        self._calls = WorkerCalls(view, self._reply)
        self._plugins = view.plugins = Plugins(view, lambda: self._loop.post(self._begin_held))
        #: Batches that wait until the worker is set up.
        self._held: list[Batch] = []
        self._tools = self._new_tools(settings, status, output)
        self._pool = self._tools.pool
        self._interrupts = Interrupts(self._pool.running, self._loop.call_later)
        self._status = status
        self._batches: deque[Batch] = deque()
        self._unsent: deque[list[Any]] = deque()
        self._stopping = False
        self._nanny_gone = False
        self._error: BaseException | None = None
        self._look_due = self._leases_due = False
        self._look_after = _LOOK
        self._leased = 0
        self._decoder = Decoder(NODE_TO_WORKER)
        self._handlers = self._new_handlers(is_process)
        # No heartbeats: the kernel tells of the end of a process on this host, and a nanny
        # that is frozen for a while finds its workers as they were.
        self._socket = socket(context, zmq.DEALER, heartbeat=False)
        self._socket.setsockopt(zmq.ROUTING_ID, settings.identity)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def _new_tools(
        self, settings: WorkerSettings, status: StatusPage, output: Output | None
    ) -> Tools:
        """Return what the slots use together."""
        return Tools(
            node=settings.node,
            worker=settings.name,
            scheduler=settings.scheduler,
            values=self._values,
            functions=self._functions,
            outbox=self._outbox,
            status=status,
            batches=self._queue,
            pool=SlotPool(settings.slots, status.lines, self._make_slot, self._queue),
            on_end=lambda error: self._loop.post(lambda: self._on_slot_end(error)),
            output=output,
            calls=self._calls,
        )

    def _new_handlers(
        self, is_process: bool
    ) -> dict[type[Message], Callable[[Any, list[bytes]], None]]:
        """Return what is done with each message of the nanny."""
        handlers: dict[type[Message], Callable[[Any, list[bytes]], None]] = {
            Run: self._on_run,
            Grant: self._on_grant,
            Discard: self._on_discard,
            Recall: self._on_recall,
            Interrupt: self._on_interrupt,
            Sources: self._on_sources,
            Environment: self._on_environment,
            Files: self._on_files,
            Call: self._calls.start,
            Stop: self._on_stop,
        }
        if not is_process:
            for kind in (Sources, Environment):
                handlers[kind] = lambda *_: None
        return handlers

    def run(self) -> bool:
        """Serve until told to stop. False: the nanny is gone, and tasks may still run.

        Raises
        ------
        BaseException
            A bug in the worker itself: what ended its loop or one of its slots.
        """
        self._loop.add_socket(self._socket, self._on_readable)
        self._loop.add_socket(self._monitor, self._on_disconnected)
        self._loop.on_idle.append(self._on_idle)
        self._socket.connect(self._settings.address)
        settings = self._settings
        self._send(WorkerHello(settings.number, settings.incarnation, os.getpid()), [])
        self._pool.start()
        self._beat()
        self._loop.run()
        self._close()
        if self._error is not None:
            raise self._error
        return not self._nanny_gone

    def abandon(self) -> None:
        """Have it hear and say nothing more, and end with the tasks that run; from any thread.

        For a worker that is a thread and cannot be killed.
        """
        with self._ending:
            if not self._is_over:
                self._loop.post(self._on_nanny_gone)

    def _make_slot(self, number: int) -> Slot:
        return Slot(number, self._tools)

    # -------------------------------------------------------- what the nanny says

    def _on_readable(self) -> None:
        for _ in range(_BURST):
            try:
                frames: list[bytes] = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = self._decoder.decode(frames[0])
            self._handlers[type(message)](message, frames[1:])
            # Asked, not tried: a receive that fails costs more, and lets go of the
            # interpreter's lock, which then goes back and forth with the slot just woken.
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                return

    def _on_run(self, run: Run, frames: list[bytes]) -> None:
        for digest, place in run.functions:
            self._functions.put(digest, bytes(span(frames, place)))
        self._leased += len(run.ranges)
        batch = Batch(run, frames, self._values.returns)
        if self._leased and not self._leases_due:
            self._leases_due = True
            self._loop.call_later(_LEASES, self._look_for_leases)
        if self._stopping:
            self._send_recalled(batch.recall())
            return
        while self._batches and self._batches[0].ended:
            self._batches.popleft()
        self._batches.append(batch)
        if self._plugins.is_busy:
            self._held.append(batch)
        else:
            self._queue.put(batch)
        if not self._look_due:
            self._look_due = True
            self._loop.call_later(_LOOK, self._look)

    def _on_grant(self, grant: Grant, _: list[bytes]) -> None:
        self._outbox.grant(grant)

    def _on_discard(self, discard: Discard, _: list[bytes]) -> None:
        self._values.discard(discard.tasks)
        self._functions.discard(discard.functions)
        self._calls.discard(discard.tasks)

    def _on_recall(self, recall: Recall, _: list[bytes]) -> None:
        wanted = set(recall.tasks)
        recalled: list[int] = []
        for batch in self._batches:
            recalled += batch.recall(wanted)
        self._send_recalled(recalled)

    def _on_interrupt(self, interrupt: Interrupt, _: list[bytes]) -> None:
        self._interrupts.stop(interrupt.tasks)

    def _on_sources(self, sources: Sources, frames: list[bytes]) -> None:
        found = []
        for name, is_package, place in sources.modules:
            try:
                source = bytes(span(frames, place))
            except ProtocolError as error:
                # A client said it and all workers hear it, also those that come later:
                # they must not end of it.
                self._complain(f"leaves out the module {name!r} that a client sent: {error}")
                continue
            digest = blake2b(source, digest_size=16).digest()
            found.append(ModuleSource(name, is_package, digest, source))
        if install_sources(found):
            self._functions.unload()

    def _on_files(self, files: Files, _: list[bytes]) -> None:
        paths = [path for path, _ in files.files]
        self._plugins.take(self._files, paths)
        modules = [path for path in paths if not path.startswith(f"{PLUGINS}/")]
        if modules and self._is_process:
            use_files(self._files, modules)
            self._functions.unload()

    def _begin_held(self) -> None:
        """All plugins are set up: run what has come meanwhile."""
        if not self._plugins.is_busy:
            held, self._held = self._held, []
            for batch in held:
                self._queue.put(batch)

    def _on_environment(self, environment: Environment, _: list[bytes]) -> None:
        known = set(sys.path)
        sys.path += [path for path in environment.paths if path not in known]
        importlib.invalidate_caches()
        try:
            os.chdir(environment.cwd)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._complain(
                f"stays in {os.getcwd()}, as the client's folder {environment.cwd} cannot be "
                f"entered here: {reason}"
            )

    def _complain(self, sentence: str) -> None:
        print(f"zcluster worker {self._settings.name}: {sentence}", file=sys.stderr)

    def _reply(self, called: Called, frames: list[bytes]) -> None:
        """Send the answer of a direct call; from any thread."""
        self._loop.post(lambda: self._send(called, frames))

    def _on_stop(self, _: Stop, __: list[bytes]) -> None:
        if self._stopping:
            return
        self._stopping = True
        recalled: list[int] = []
        for batch in self._batches:
            recalled += batch.recall()
        if recalled:
            self._send_recalled(recalled)
        self._pool.stop()

    def _on_disconnected(self) -> None:
        self._monitor.recv_multipart(zmq.NOBLOCK)
        self._on_nanny_gone()

    def _on_nanny_gone(self) -> None:
        self._nanny_gone = True
        self._loop.stop()

    # ------------------------------------------------------------ what slots say

    def _on_slot_end(self, error: BaseException | None) -> None:
        self._error = self._error or error
        if not self._pool.alive or error is not None:
            self._loop.stop()

    def _on_idle(self) -> None:
        messages = self._outbox.drain()
        for message, frames in messages:
            self._send(message, frames)
            if isinstance(message, Return):
                self._leased -= len(message.ranges)
        if messages:
            self._look_after = _LOOK

    def _beat(self) -> None:
        """Write into the status page that this loop answers: the nanny reads it there."""
        self._status.beat()
        self._loop.call_later(_BEAT, self._beat)

    def _look(self) -> None:
        """Come back while batches run; the idle callback of this round does the looking."""
        self._look_due = not all(batch.ended for batch in self._batches)
        if self._look_due:
            self._loop.call_later(self._look_after, self._look)
            self._look_after = min(2 * self._look_after, _LOOK_AT_MOST)

    def _look_for_leases(self) -> None:
        """Come back while leases are out: finalisers cannot wake the loop."""
        # What has ended is returned by the idle callback of this round.
        self._leases_due = self._leased > len(self._values.returns)
        if self._leases_due:
            self._loop.call_later(_LEASES, self._look_for_leases)

    # ----------------------------------------------------------------- the socket

    def _send_recalled(self, tasks: list[int]) -> None:
        self._send(Recalled(tasks, [0] * len(tasks)), [])

    def _send(self, message: Message, frames: list[bytes]) -> None:
        self._unsent.append([encode(message), *frames])
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                send_frames(self._socket, self._unsent[0])
            except zmq.Again:  # the nanny does not read: what it may get is bounded by what it gave
                self._loop.call_later(_RETRY, self._flush)
                return
            self._unsent.popleft()

    def _descriptor(self, slab: int) -> int:
        assert self._door is not None
        return self._door.receive_descriptor(slab, _DOOR_TIMEOUT)

    def _close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0 if self._nanny_gone else _LINGER)
        if not self._is_process:
            self._wait_for_slots()
            self._calls.close()
            self._plugins.close()
        if not self._is_process or (not self._nanny_gone and self._error is None):
            self._values.close()
            if self._door is not None:
                self._door.close()
        with self._ending:
            self._is_over = True
            self._loop.close()

    def _wait_for_slots(self) -> None:
        """Let the running tasks come to their end, without those that wait behind them."""
        for batch in self._batches:
            batch.recall()
        self._pool.stop()
        self._pool.join(threading.TIMEOUT_MAX)


def run_worker(settings: WorkerSettings, status_fd: int) -> int:
    """Be a worker process; return what to exit with.

    Parameters
    ----------
    settings : WorkerSettings
    status_fd : int
        Descriptor of the worker's status page.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL)
    default_to_one_thread()
    context: zmq.Context[Any] = zmq.Context()
    status = StatusPage(status_fd, settings.slots)
    output = None
    if config.get("output.forward"):
        output = Output(settings.name, status, config.get("output.rate"))
        output.install()
    try:
        worker = Worker(settings, context, status, output=output)
    except StartError:
        # A nanny that ends closes its door first, and kills this process next: no word of it.
        time.sleep(_NANNY_ENDING)
        raise
    if not worker.run():
        return EXIT_NANNY_GONE
    context.term()
    return 0
