"""The scheduler behind its ROUTER: `SchedulerCore` with sockets.

This file moves events into the core and effects out of it, and decides nothing.
It never unpickles: payload frames go in and out as they are.
"""

from __future__ import annotations

import logging
import os
import socket as sockets
import time

import zmq

from zcluster import config
from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.records import SchedulerSettings as CoreSettings
from zcluster.errors import InvariantError, ProtocolError, StartError
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    Called,
    Heartbeat,
    Hello,
    Message,
    Refused,
    Welcome,
)
from zcluster.servers.aside import Aside
from zcluster.servers.endings import Endings
from zcluster.servers.garbage import Garbage
from zcluster.servers.settings import SchedulerSettings
from zcluster.servers.stalls import Stalls
from zcluster.transport import lifeline
from zcluster.transport.hub import Hub
from zcluster.transport.loop import Loop
from zcluster.transport.scheduler_file import (
    SchedulerFile,
    remove_scheduler_file,
    write_scheduler_file,
)
from zcluster.transport.sockets import check_address
from zcluster.transport.versions import package_versions
from zcluster.version import __version__

__all__ = ["SchedulerServer"]

_log = logging.getLogger(__name__)
#: How often members that are away are looked at.
_TICK = 0.25
#: With so many pages of tasks a search for garbage takes a few milliseconds.
_FEW_PAGES = 32


class SchedulerServer:
    """A scheduler, bound to its address from construction on.

    Parameters
    ----------
    settings : SchedulerSettings
    is_alone : bool
        Whether nothing else lives in this process.

    Attributes
    ----------
    address : str
        The address bound.

    Raises
    ------
    StartError
        If the address cannot be bound, or the scheduler file not be written.
    InvalidAddress
        If the address may not be used.
    """

    def __init__(self, settings: SchedulerSettings, is_alone: bool = False) -> None:
        if settings.log_level:
            config.configure_logging("scheduler", settings.log_level)
        check_address(settings.address, settings.insecure, settings.keys is not None)
        self._settings = settings
        self._is_timer_set = False
        self._is_alone = is_alone
        self._garbage: Garbage | None = None
        self._loop = Loop()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._hub = self._listen(settings.address)
        except zmq.ZMQError as error:
            self._context.destroy(0)
            self._loop.close()
            raise StartError(
                f"the scheduler cannot listen at {settings.address}: {error}; does another one, "
                "or may this user not?"
            ) from error
        self.address = self._hub.address
        self._host = sockets.gethostname()
        self._endings = Endings(self._loop, self._on_ended)
        self._aside = Aside(self._loop, self._on_aside)
        self._stalls = Stalls()
        self._core = SchedulerCore(
            self.address, __version__, CoreSettings(kills=settings.allowed_failures)
        )
        self._core.state.about = {
            "id": settings.id,
            "name": settings.name,
            "pid": os.getpid(),
            "started": time.time(),
            "versions": package_versions(),
        }
        self._loop.on_idle.append(self._flush)
        self._loop.call_later(_TICK, self._tick)
        if settings.insecure and self.address.startswith("tcp://"):
            _log.warning("plain TCP at %s: whoever reaches it can run code as you", self.address)
        if settings.lifeline is not None:
            lifeline.watch(self._loop, settings.lifeline, self.stop)
        if settings.scheduler_file is not None:
            record = SchedulerFile(
                address=self.address,
                id=settings.id,
                host=sockets.gethostname(),
                pid=os.getpid(),
                insecure=settings.insecure,
                started=time.time(),
                keys={} if settings.keys is None else settings.keys.to_texts(),
            )
            write_scheduler_file(settings.scheduler_file, record)

    def _listen(self, address: str) -> Hub:
        return Hub(
            self._loop,
            self._context,
            address,
            accepts={"client": CLIENT_TO_SCHEDULER, "node": NODE_TO_SCHEDULER},
            on_hello=self._on_hello,
            on_message=self._on_message,
            on_disconnect=lambda peer: self._core.on_away(peer, self._loop.now()),
            on_resume=lambda peer: self._core.on_back(peer, self._loop.now()),
            on_gone=lambda peer, reason: self._core.on_gone(peer, reason, self._loop.now()),
            keys=self._settings.keys,
        )

    def run(self) -> None:
        """Serve until `stop`."""
        if self._is_alone:
            self._garbage = Garbage(self._loop.now())
        try:
            self._loop.run()
        finally:
            if self._garbage is not None:
                self._garbage.close()
            self._aside.close()
            self._endings.close()
            if self._settings.scheduler_file is not None:
                remove_scheduler_file(self._settings.scheduler_file, self._settings.id)
            self._hub.close("the scheduler was closed")
            self._loop.close()
            self._context.term()

    def stop(self) -> None:
        """Make `run` return; safe from a signal handler and from other threads."""
        self._loop.stop()

    # ---------------------------------------------------------------------- events in

    def _on_hello(self, peer: int, hello: Hello) -> Welcome | Refused:
        answer = self._core.on_hello(peer, hello, self._loop.now())
        node = hello.node
        if node is not None and isinstance(answer, Welcome) and node.host == self._host:
            self._endings.watch(peer, node.pid)
        return answer

    def _on_ended(self, peer: int) -> None:
        self._core.on_gone(peer, "its process ended", self._loop.now())

    def _on_message(self, peer: int, message: Message, frames: list[bytes]) -> None:
        if isinstance(message, Heartbeat):
            self._stalls.hear(peer, self._loop.now())
        try:
            self._core.on_message(peer, message, frames, self._loop.now())
        except (ProtocolError, InvariantError):
            raise
        except Exception as error:
            # It passed the checks of its types and contradicts itself all the same: that
            # ends one session, and not the work of everybody else.
            kind = type(message).__name__
            _log.exception("a %s of peer %d could not be understood", kind, peer)
            raise ProtocolError(
                f"the {kind} contradicts itself ({type(error).__name__}: {error})"
            ) from error

    def _on_aside(self, called: Called, frames: list[bytes]) -> None:
        self._core.on_aside(called, frames, self._loop.now())

    def _tick(self) -> None:
        now = self._loop.now()
        self._core.on_time(now)
        nodes = self._core.state.nodes.values()
        reachable = [(node.peer, node.info.name) for node in nodes if node.away_since is None]
        for sentence in self._stalls.look(reachable, now):
            _log.warning("%s", sentence)
        self._core.state.refused_messages = self._hub.refused
        if self._garbage is not None:
            self._garbage.on_time(now, len(self._core.state.pages) < _FEW_PAGES)
        self._loop.call_later(_TICK, self._tick)

    # --------------------------------------------------------------------- effects out

    def _flush(self) -> None:
        core, hub = self._core, self._hub
        for client in core.state.clients.values():
            if client.has_news:
                client.in_flight = hub.in_flight(client.peer)
        for peer, message, frames in core.flush(self._loop.now()):
            hub.send(peer, message, frames)
        for number, payload in core.calls.take_aside():
            self._aside.start(number, payload)
        for peer, reason in core.take_fenced():
            hub.forget(peer, reason)
        again = core.wake_after
        if again == 0:
            self._loop.wake()
        elif again is not None and not self._is_timer_set:
            self._is_timer_set = True
            self._loop.call_later(again, self._on_timer)

    def _on_timer(self) -> None:
        self._is_timer_set = False  # the idle callback runs next and flushes
