"""The worker processes of a node: started, watched, heard, replaced.

Workers are forked from a template process. Each has a status page, which tells
what it was running when it died, and two pipes for what it prints: whole lines go
on to the nanny's own output, and the last few stay, for the error that names them. What
Python prints of a fault is in that error alone.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from zcluster.core.node.records import WorkerEnd
from zcluster.errors import StartError
from zcluster.servers.faults import FaultDump
from zcluster.servers.forking import Ended, Forked, NotForked, TemplateEvent, WorkerSettings
from zcluster.servers.status import StatusPage
from zcluster.servers.template_client import Template
from zcluster.transport.keys import Keys
from zcluster.transport.loop import Loop

__all__ = ["KILLED", "Crew", "WorkerStarter"]

#: What is remembered of each pipe of a worker: so many lines, cut at so many bytes, and of these
#: at most so many bytes. A fault's dump of all threads has about fifty lines.
_LINES, _LINE_BYTES, _TAIL_BYTES = 80, 500, 4 << 10
#: A worker that ends sooner than this, before it has run a task, is started again after a
#: while only.
_QUICK_END = 1.0
_FIRST_DELAY, _LAST_DELAY = 0.1, 30.0


class WorkerStarter(Protocol):
    """What a crew needs of a `Template`, or of what stands in its place."""

    ended: bool

    def start(self) -> None:
        """Become able to start workers."""

    def fork(self, settings: WorkerSettings, stdout: int, stderr: int, status: int) -> None:
        """Start a worker; an event answers."""

    def send_signal(self, pid: int, number: int) -> None:
        """Send a signal to a worker and to what its tasks have started."""

    def fileno(self) -> int:
        """Readable when there are events."""

    def events(self) -> list[TemplateEvent]:
        """Return what has happened since the last call, without waiting."""

    def close(self) -> None:
        """End all workers."""


class _Output:
    """One pipe of a worker."""

    def __init__(self, crew: Crew, fd: int, to: int) -> None:
        self._crew = crew
        self.fd = fd
        self._to = to
        self._tail: deque[bytes] = deque(maxlen=_LINES)
        self._rest = b""
        self._dump = FaultDump()
        os.set_blocking(fd, False)
        crew.loop.add_fd(fd, self.read)

    def read(self) -> None:
        """Pass on what was printed, a whole line at a time."""
        while self.fd >= 0:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > 1 << 16:
                lines.append(self._rest)
                self._rest = b""
            if lines:
                self._pass_on(lines)

    def _pass_on(self, lines: list[bytes]) -> None:
        lines = self._dump.take(lines)
        self._tail.extend(line[:_LINE_BYTES] for line in lines)
        self._print(lines)

    def _print(self, lines: list[bytes]) -> None:
        if not lines:
            return
        data = b"\n".join(lines) + b"\n"
        try:
            while data:
                data = data[os.write(self._to, data) :]
        except OSError:
            # Nobody reads what this node prints; the tail is still kept.
            return

    def tail(self) -> list[bytes]:
        """Return the last lines, as many as `_TAIL_BYTES` hold."""
        kept: list[bytes] = []
        room = _TAIL_BYTES
        for line in reversed([*self._tail, *(line[:_LINE_BYTES] for line in self._dump.news())]):
            room -= len(line) + 1
            if room < 0:
                break
            kept.append(line)
        return kept[::-1]

    def print_dump(self) -> None:
        """Print what was kept of a fault that no task's error tells of."""
        self._print(self._dump.lines)

    def close(self) -> None:
        """Let go of the pipe, after its last line."""
        if self.fd >= 0:
            if self._rest:
                self._pass_on([self._rest])
                self._rest = b""
            self._crew.loop.remove(self.fd)
            os.close(self.fd)
            self.fd = -1


class _Member:
    """One start of a worker."""

    def __init__(self, number: int, incarnation: int, page: StatusPage, now: float) -> None:
        self.number = number
        self.incarnation = incarnation
        self.page = page
        self.started = now
        self.pid = 0
        self.outputs: list[_Output] = []


class Crew:
    """The worker processes of a node.

    Parameters
    ----------
    loop : Loop
    names : list of str
        The workers' names, by number.
    node, threads, address, door, scheduler, keys
        What `WorkerSettings` needs.
    on_end : callable
        Called with a `WorkerEnd` when a worker is gone.
    template : callable
        Makes what workers are started by.
    """

    def __init__(
        self,
        loop: Loop,
        names: list[str],
        *,
        node: str,
        threads: int,
        address: str,
        door: Path,
        scheduler: str,
        keys: Keys | None = None,
        on_end: Callable[[WorkerEnd], None],
        template: Callable[[], WorkerStarter] = Template,
    ) -> None:
        self.loop = loop
        self._make_template = template
        self._names = names
        self._node = node
        self._threads = threads
        self._address = address
        self._door = door
        self._scheduler = scheduler
        self._keys = {} if keys is None else keys.to_texts()
        self._on_end = on_end
        self._members: dict[int, _Member] = {}
        self._incarnation = 0
        self._delays: dict[int, float] = {}
        #: Workers, by incarnation, whose end was asked for: nothing they say counts any more.
        self._doomed: set[int] = set()
        #: Incarnation of the worker whose end is being told, if what it said counts; or 0.
        self._ending = 0
        self._closed = False
        #: Why there is no template for now, and when the next is tried.
        self._refused = ""
        self._template_delay = _FIRST_DELAY
        self._start_template()

    def _start_template(self) -> None:
        self._template = self._make_template()
        self._template.start()
        self.loop.add_fd(self._template.fileno(), self._on_template)

    def _replace_template(self) -> None:
        """Start another template; if the system refuses, after a while, again and again."""
        if self._closed:
            return
        try:
            self._start_template()
        except StartError as error:
            self._template.close()
            self._refused = str(error)
            self.loop.call_later(self._template_delay, self._replace_template)
            self._template_delay = min(_LAST_DELAY, 2 * self._template_delay)
        else:
            self._refused, self._template_delay = "", _FIRST_DELAY

    def incarnation(self, number: int) -> int:
        """Return which start of a worker is the current one (0: none)."""
        member = self._members.get(number)
        if member is None or member.incarnation in self._doomed:
            return 0
        return member.incarnation

    def is_heard(self, number: int, incarnation: int) -> bool:
        """Whether what a worker has said counts: also while its end is being told."""
        return incarnation in (self.incarnation(number), self._ending)

    def pid(self, number: int) -> int:
        """Return a worker's process id (0: none yet)."""
        member = self._members.get(number)
        return 0 if member is None else member.pid

    def silence(self, number: int) -> float:
        """Return for how many seconds a worker's loop has not answered."""
        member = self._members.get(number)
        return 0.0 if member is None else member.page.silence()

    # ------------------------------------------------------------------------ starting

    def start(self, number: int) -> None:
        """Start a worker, after a while if its last starts ended at once."""
        delay = self._delays.get(number, 0.0)
        if delay:
            self.loop.call_later(delay, lambda: self._fork(number))
        else:
            self._fork(number)

    def _fork(self, number: int) -> None:
        if self._closed or number in self._members:
            return
        self._incarnation += 1
        if self._refused:
            self._not_started(number, self._refused)
            return
        try:
            self._start_member(number)
        except OSError as error:  # no descriptor or no memory left
            self._not_started(number, str(error.strerror))

    def _not_started(self, number: int, reason: str) -> None:
        """Say that a worker could not be started: it is tried again, later each time."""
        self._start_later(number)
        cause = f"could not be started ({reason})"
        self._on_end(WorkerEnd(number, self._incarnation, cause, 0, "", []))

    def _start_later(self, number: int) -> None:
        delay = self._delays.get(number, _FIRST_DELAY / 2)
        self._delays[number] = min(_LAST_DELAY, delay * 2)

    def _start_member(self, number: int) -> None:
        page = StatusPage.create(self._threads)
        try:
            out_read, out_write = os.pipe()
            try:
                err_read, err_write = os.pipe()
            except OSError:
                os.close(out_read)
                os.close(out_write)
                raise
        except OSError:
            page.close()
            raise
        member = _Member(number, self._incarnation, page, self.loop.now())
        self._members[number] = member
        settings = WorkerSettings(
            number=number,
            incarnation=member.incarnation,
            name=self._names[number],
            node=self._node,
            slots=self._threads,
            address=self._address,
            door=str(self._door),
            scheduler=self._scheduler,
            keys=self._keys,
        )
        try:
            self._template.fork(settings, out_write, err_write, page.fd)
        except StartError:
            # It is gone; its end is about to be noticed, and starts it anew.
            os.close(out_read)
            os.close(err_read)
        else:
            member.outputs = [
                _Output(self, out_read, 1),
                _Output(self, err_read, 2),
            ]
        finally:
            os.close(out_write)
            os.close(err_write)

    # -------------------------------------------------------------------------- ends

    def _on_template(self) -> None:
        for event in self._template.events():
            member = self._members.get(event.number)
            if member is None or member.incarnation != event.incarnation:
                continue
            if isinstance(event, Forked):
                member.pid = event.pid
            elif isinstance(event, Ended):
                self._ended(member, _cause(event.code), event.peak_rss)
            elif isinstance(event, NotForked):
                self._ended(member, f"could not be started ({event.reason})", 0)
        if self._template.ended and not self._closed:
            self.loop.remove(self._template.fileno())
            self._template.close()
            self._replace_template()
            for member in list(self._members.values()):
                self._ended(member, KILLED_TOO, 0)

    def _ended(self, member: _Member, cause: str, peak: int) -> None:
        for output in member.outputs:
            output.read()
            output.close()
        del self._members[member.number]
        statuses = member.page.read()
        has_run = any(status.started_ns for status in statuses)
        slots = [status for status in statuses if status.task is not None]
        running = [status.task for status in slots if status.task is not None]
        printed = [line for slot in slots for line in member.page.tail(slot.slot).splitlines()]
        member.page.close()
        quick = self.loop.now() - member.started < _QUICK_END
        is_doomed = member.incarnation in self._doomed
        if is_doomed:
            self._doomed.discard(member.incarnation)
            self._delays.pop(member.number, None)
            running, has_run = [], False  # it is not to blame
        elif quick and not has_run:
            self._start_later(member.number)
        else:
            self._delays.pop(member.number, None)
        # One pipe after the other: a fault's dump must not push out what the task has printed.
        lines = [line[:_LINE_BYTES] for line in printed[-_LINES:]]
        lines += [line for output in member.outputs for line in output.tail()]
        output_text = b"\n".join(lines).decode(errors="replace")
        if not slots:
            for output in member.outputs:
                output.print_dump()
        self._ending = 0 if is_doomed else member.incarnation
        self._on_end(
            WorkerEnd(
                member.number,
                member.incarnation,
                cause,
                peak,
                output_text,
                running,
                has_run=has_run,
            )
        )
        self._ending = 0

    def kill(self, number: int) -> None:
        """Kill a worker and what its tasks have started."""
        member = self._members.get(number)
        if member is not None and member.pid:
            try:
                self._template.send_signal(member.pid, signal.SIGKILL)
            except StartError:
                # It is gone, and its workers with it; its end is about to be noticed.
                return

    def restart(self, number: int) -> None:
        """Kill a worker, whatever it does, and start it anew at once.

        Its tasks are not blamed. One that is just being started is fresh as it is.
        """
        member = self._members.get(number)
        if member is None:
            self._delays.pop(number, None)
            self._fork(number)
        elif member.pid:
            self._doomed.add(member.incarnation)
            self.kill(number)

    def close(self) -> None:
        """End all workers and wait until they are gone."""
        if self._closed:
            return
        self._closed = True
        if not self._refused:
            self.loop.remove(self._template.fileno())
            self._template.close()
        for member in self._members.values():
            for output in member.outputs:
                output.read()
                output.close()
            member.page.close()
        self._members.clear()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


#: How a worker ended that SIGKILL has ended, from wherever it came; alone, or with its template.
KILLED_TOO = "was killed with the process it was forked from"
KILLED = (_cause(-signal.SIGKILL), KILLED_TOO)
