"""The slots of a worker: threads that run tasks.

All slots take batches from one queue, first come, first served. A slot runs a batch
back to back: this is the innermost loop of the whole system, and what it costs a task
is what zcluster costs a task. `Slot.run` is therefore one long loop over local names,
with the two usual call forms written out; everything unusual (inputs from the store,
results that are held, large or cannot be pickled, failures) is in the methods below.

For each task it writes the task's number into the status page, makes the call, turns
the result into what is reported, and puts a record into the outbox. The clock is read
once a task: the end of one is the start of the next, and durations include what is
spent on inputs and result, as that is how long the slot was taken.

A task may be interrupted while its function runs, and only then: an input or a result
taken halfway would be one lost. See `zcluster.servers.interrupts`.

The loop's thread is woken when a batch ends, after a task that took long, and when
the last wake-up is a while ago: one system call for many results.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pickle import loads
from queue import SimpleQueue
from typing import Any, NoReturn

from zcluster.errors import NotSerializable, OutOfDisk, ResultNotSerializable, StoreFull
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED_LAST,
    CALL_SINGLE,
    CALL_VALUE,
    make_call,
)
from zcluster.protocol.objects import Plan, dumps_small, plan
from zcluster.servers.arguments import show_call
from zcluster.servers.batches import Batch
from zcluster.servers.calls import WorkerCalls, current_worker
from zcluster.servers.failures import describe
from zcluster.servers.functions import Functions
from zcluster.servers.interrupts import Interrupted, Window
from zcluster.servers.outbox import Outbox
from zcluster.servers.output import Output
from zcluster.servers.slot_pool import SlotPool
from zcluster.servers.status import LINE, RUNS, STARTED, TASK, StatusPage
from zcluster.servers.threads import thread_limit
from zcluster.servers.values import MISSING, Shared, Values, load_own
from zcluster.types import RunningTask, running_task

__all__ = ["INLINE_LIMIT", "Slot", "Tools"]

#: Results whose blob is at most this many bytes travel inside the report.
INLINE_LIMIT = 16 * 1024
#: Results are passed on at least this often, and after each task longer than that; ns.
REPORT_EVERY = 2_000_000
LONG_TASK = 1_000_000
#: Seconds a slot waits for room in the store.
GRANT_TIMEOUT = 600.0

#: `Grant.slab` where the disk is full, too.
_NO_DISK = -2

#: What `Done.lengths` says, and a mark of our own for "no record".
_STORED, _HELD, _HELD_LIVE, _FAILED = -1, -2, -3, -4
#: `Run.report`: the result is wanted outside, but may stay here if it cannot be pickled.
_MAY_BE_HELD = 2

#: This process. Kept up by a hook: asking the system at each task would cost more.
_pid = os.getpid()


def _note_fork() -> None:
    global _pid
    _pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@dataclass(frozen=True)
class Tools:
    """What all slots of a worker share.

    ``on_end`` is called by each slot's thread as its last act, with what ended it, or
    None where it was told to end.
    """

    node: str
    worker: str
    scheduler: str
    values: Values
    functions: Functions
    outbox: Outbox
    status: StatusPage
    batches: SimpleQueue[Batch | None]
    pool: SlotPool
    on_end: Callable[[BaseException | None], None]
    grant_timeout: float = GRANT_TIMEOUT
    output: Output | None = None
    calls: WorkerCalls | None = None


class _Refusal(Exception):
    """A result that exists but cannot be reported; ``kind`` as in `ErrorInfo`."""

    def __init__(self, kind: str, error: BaseException) -> None:
        super().__init__(kind)
        self.kind = kind
        self.error = error


class _SlotTask(RunningTask):
    """The task that a slot runs at the moment it is asked: set once, not at each task."""

    _slot: Slot

    @property
    def task(self) -> int:  # a field that is read from the page
        return self._slot.task

    def leave(self, wake: Callable[[], None] | None = None) -> None:
        self._slot.leave(wake)

    def come_back(self) -> None:
        self._slot.come_back()


class Slot:
    """One slot: a thread that runs batches until it gets None.

    Parameters
    ----------
    number : int
        Its line in the status page.
    tools : Tools
    """

    def __init__(self, number: int, tools: Tools) -> None:
        self.number = number
        self._tools = tools
        self._values = tools.values
        self._batch: Batch | None = None
        #: How often the current task has left the slot and not come back.
        self._away = 0
        #: What ends the waits for which it left, the innermost last.
        self._wakes: list[Callable[[], None] | None] = []
        self.window = Window()
        self._printed = None if tools.output is None else tools.output.slot(number)
        self._thread = threading.Thread(
            target=self._main, name=f"{tools.worker}-slot-{number}", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; False if it has not."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        ended_by: BaseException | None = None
        self.window.thread = threading.get_ident()
        try:
            self._serve()
        except BaseException as error:  # a bug of ours: the worker must end, not hang
            traceback.print_exc()
            ended_by = error
        if self._away:
            self._tools.pool.come_back()
        self._tools.pool.ended(self.number)
        self._tools.on_end(ended_by)

    @property
    def task(self) -> int:
        """The task it runs."""
        return self._tools.status.cells[self.number * LINE + TASK]

    def leave(self, wake: Callable[[], None] | None = None) -> None:
        """Let another thread work in place of this one, whose task is about to wait.

        ``wake`` ends its wait, should it be interrupted meanwhile.
        """
        is_open = self._shut()
        self._away += 1
        self._wakes.append(wake)
        if self._away == 1 and self._batch is not None:
            self._give_place(self._batch)
        if is_open:
            self.window.open(self.task, wake)

    def _shut(self) -> bool:
        """Shut the window if its thread calls; return whether it was open.

        It is not while inputs are loaded, which may be code of the user's too.
        """
        window = self.window
        if not window.is_own:
            return False
        is_open = window.task >= 0
        window.shut()
        return is_open

    def stop(self, task: int) -> bool:
        """Interrupt a task; from the loop's thread. False: it cannot be done at the moment.

        A task that waits for room for its result fails instead, and soon.
        """
        if self.window.interrupt(task):
            return True
        self._tools.outbox.refuse(task, "the task is to stop")
        return False

    def _give_place(self, batch: Batch) -> None:
        tools = self._tools
        task = self.task
        # What stands behind it might be what it waits for.
        tools.outbox.recalled.extend(batch.recall_others(task))
        tools.outbox.blocked.append((task, True))
        tools.pool.leave()
        tools.outbox.wake()

    def come_back(self) -> None:
        """Go on with a task that has waited."""
        is_open = self._shut()
        was_away = self._away > 0
        self._away = max(0, self._away - 1)
        if self._wakes:
            self._wakes.pop()
        if was_away and not self._away and self._batch is not None:
            self._tools.outbox.blocked.append((self.task, False))
            self._tools.pool.come_back()
            self._tools.outbox.wake()
        if is_open:
            self.window.open(self.task, self._wakes[-1] if self._wakes else None)

    def _serve(self) -> None:
        tools = self._tools
        current = _SlotTask(0, tools.worker, tools.scheduler)
        current._slot = self
        running_task.set(current)
        if self._tools.calls is not None:
            current_worker.set(self._tools.calls.view)
        if self._printed is not None:
            self._printed.enter()
        while (batch := tools.batches.get()) is not None:
            self._batch = batch
            if batch.threads > 1:
                with thread_limit(batch.threads):
                    self.run(batch)
            else:
                self.run(batch)
            batch.ended = True
            # Not kept while waiting for the next: it has the bytes of all constants.
            self._batch = None
            del batch
            tools.outbox.wake()
            _flush_output(tools.output)
            self._take_place()
            if tools.pool.is_surplus():
                return

    def _take_place(self) -> None:
        """Hold the slot again if the task left for good, and has ended."""
        self._wakes.clear()
        if self._away:
            self._away = 0
            self._tools.pool.come_back()

    # ---------------------------------------------------------------- the loop

    def run(self, batch: Batch) -> None:
        """Run the tasks of a batch that nobody recalls meanwhile."""
        pid = _pid
        while True:
            try:
                self.run_tasks(batch)
            except Interrupted:
                if _pid != pid:
                    _end_child(None)
                self._stopped()
            else:
                return

    def _stopped(self) -> None:
        """A task was interrupted: take note that it has ended; what it gave is for nobody."""
        self.window.forget()
        task = self.task
        self._end_lines()
        self._take_place()
        self._tools.outbox.skipped.append(task)
        self._tools.outbox.wake()

    def run_tasks(self, batch: Batch) -> None:
        """Run the tasks of a batch, until one is interrupted."""
        outbox = self._tools.outbox
        cells = self._tools.status.cells
        line = self.number * LINE
        tasks, uses, report = batch.tasks, batch.uses, batch.report
        constants, offsets = batch.constants, batch.offsets
        take, record, gather = batch.todo.popleft, outbox.done.append, self._gather
        unfinished = None if self._printed is None else self._printed.unfinished
        window, hits = self.window, self.window.hits
        now = time.monotonic_ns
        begun = posted = now()
        begun_us = begun // 1000
        ran = 0
        pid = _pid
        limit = -1  # the position at which function and form change
        function: Any = None
        form = CALL_INPUTS
        arguments: Any = None
        value: Any = None
        while True:
            try:
                at = take()
            except IndexError:
                break
            task = tasks[at]
            cells[line + TASK] = task
            cells[line + STARTED] = begun
            blob = b""
            try:
                if at >= limit:
                    function, form, limit = self._segment(batch, at)
                if form == CALL_SINGLE:
                    blob = constants[offsets[at] : offsets[at + 1]]
                    window.task = task
                    # 128: a plain pickle. Arrays are loaded from a copy, to be writable.
                    value = function(loads(blob) if blob[0] == 128 else load_own(blob))
                else:
                    arguments = gather(batch, at, form)
                    if arguments is None:
                        outbox.skipped.append(task)
                        continue
                    window.task = task
                    if form == CALL_INPUTS:
                        value = function(*arguments)
                    else:
                        value = make_call(form, function, batch.constant(at), arguments)
                    arguments = None
                window.task = -1
                if hits:
                    window.check()
                if uses[at]:
                    length, blob = self._settle(task, value, uses[at], report[at])
                elif report[at]:
                    length, blob = self._report(task, value, report[at])
                else:
                    length, blob = _HELD, b""
            except BaseException as error:  # SystemExit too: the task failed, the worker lives
                window.task = -1
                if hits:
                    window.check()
                if _pid != pid:
                    _end_child(error)
                length = _FAILED
                self._fail(task, error, show_call(form, batch.constant(at), arguments))
            if _pid != pid:
                _end_child(None)
            # Not while the next task runs: it may be all the memory there is.
            value = arguments = None
            if unfinished:
                self._end_lines()
            ended = now()
            ended_us = ended // 1000
            if length != _FAILED:
                record((task, length, ended_us - begun_us, blob))
            if ended - begun > LONG_TASK or ended - posted > REPORT_EVERY:
                posted = ended
                outbox.wake()
            begun, begun_us = ended, ended_us
            ran += 1
        cells[line + RUNS] += ran
        self._tools.status.clear(self.number)

    def _report(self, task: int, value: Any, report: int) -> tuple[int, bytes]:
        """Return what is said of a result that no later task of the batch takes."""
        try:
            small = dumps_small(value, INLINE_LIMIT)
        except NotSerializable:
            small = None  # may be held or not: _settle knows
        if small is None:
            return self._settle(task, value, 0, report)
        return len(small), small

    def _segment(self, batch: Batch, position: int) -> tuple[Any, int, int]:
        digest, form, limit = batch.segment(position)
        if form in (CALL_VALUE, CALL_ALIAS):
            return None, form, limit
        function = self._tools.functions.get(digest)
        if batch.actors and batch.tasks[position] in batch.actors and self._tools.calls is not None:
            function = self._tools.calls.creator(function)
        return function, form, limit

    # ------------------------------------------------------------------ inputs

    def _gather(self, batch: Batch, position: int, form: int) -> list[Any] | None:
        """Return a task's inputs, or None if one that should be held is not there.

        Each input is taken, whatever becomes of the others: a use is a use.
        """
        start, stop = batch.indptr[position : position + 2]
        held = self._values.held
        sources = batch.sources
        arguments: list[Any] = []
        problem: BaseException | None = None
        missing = False
        for at in range(start, stop):
            key = batch.inputs[at]
            try:
                if key in sources:
                    if key in batch.cuts:
                        part = batch.cuts[key]
                        value = self._values.open_part(sources[key], batch.inline, part)
                    else:
                        raw = form == CALL_PACKED_LAST and at == stop - 1
                        value = self._values.open(sources[key], batch.inline, raw)
                else:
                    value = held.get(key, MISSING)
                    if type(value) is Shared:
                        value = self._values.take(key)
                    elif value is MISSING:
                        missing = True
                    else:
                        held.pop(key, None)
            except BaseException as error:  # unpickling runs code of the user
                error.add_note(f"While input {at - start} of the task was loaded.")
                problem = problem or error
            else:
                arguments.append(value)
        if problem is not None:
            raise problem
        if missing:
            return None
        return batch.grouped(position, arguments) if batch.groups else arguments

    # ----------------------------------------------------------------- results

    def _settle(self, task: int, value: Any, uses: int, report: int) -> tuple[int, bytes]:
        """Hold, inline or store a result; return what `Done.lengths` says, and the blob."""
        blob: bytes | None = None
        planned: Plan | None = None
        if report:
            try:
                blob = dumps_small(value, INLINE_LIMIT)
                if blob is None:
                    planned = plan(value)
            except NotSerializable as error:
                if not uses and report != _MAY_BE_HELD:
                    raise _not_serializable(value, error) from None
                self._values.hold_live(task, value)
                return _HELD_LIVE, b""
            if planned is not None:
                self._store(task, planned)
        if uses and not self._values.hold(task, value, uses, blob, planned):
            return _HELD_LIVE, b""
        if planned is not None:
            return _STORED, b""
        return (_HELD, b"") if blob is None else (len(blob), blob)

    def _store(self, task: int, planned: Plan) -> None:
        """Write a result into the node's store, waiting for room there."""
        outbox = self._tools.outbox
        grant = outbox.reserve(task, planned.size, self._tools.grant_timeout)
        if grant is not None and grant.slab < 0 and gc.collect():
            # Values in reference cycles may have been what kept leases from returning.
            grant = outbox.reserve(task, planned.size, self._tools.grant_timeout)
        if grant is None or grant.slab < 0:
            reason = (
                f"no answer within {self._tools.grant_timeout} s from node {self._tools.node}; "
                "release results, or give it more memory"
                if grant is None
                else grant.reason
            )
            is_disk = grant is not None and grant.slab == _NO_DISK
            raise _Refusal(
                "disk" if is_disk else "store",
                (OutOfDisk if is_disk else StoreFull)(
                    f"no room for a result of {planned.size} bytes: {reason}"
                ),
            )
        self._values.write((grant.slab, grant.offset, grant.length), planned)
        outbox.ranges[task] = (grant.slab, grant.offset, planned.size)

    # ---------------------------------------------------------------- failures

    def _end_lines(self) -> None:
        """Pass on what a task has printed without an end of line, before what became of it."""
        if self._printed is not None:
            self._printed.end_task()

    def _fail(self, task: int, error: BaseException, arguments: str) -> None:
        self._end_lines()
        kind = "task"
        if isinstance(error, _Refusal):
            kind, error = error.kind, error.error
        tools = self._tools
        described = describe(error, task, kind, tools.node, tools.worker, arguments)
        tools.outbox.failed.append(described)


def _not_serializable(value: Any, error: NotSerializable) -> _Refusal:
    kind = type(value)
    return _Refusal(
        "serialize",
        ResultNotSerializable(
            f"the result, a {kind.__module__}.{kind.__qualname__}, cannot leave its worker: "
            f"{error} Or let the task that makes it and those that use it be one task."
        ),
    )


def _end_child(error: BaseException | None) -> NoReturn:
    """End a child that a task forked, where it comes out of the task.

    It has a copy of this thread and of no other: it would run the tasks that wait here a
    second time, report to nobody, and let the task that waits for its end wait for ever.
    """
    status = 0
    if isinstance(error, SystemExit):
        code = error.code
        status = code & 0xFF if isinstance(code, int) else int(code is not None)
        if status and not isinstance(code, int):
            print(code, file=sys.stderr)
    elif error is not None:
        status = 1
        traceback.print_exception(error)
    _flush_output(None)
    os._exit(status)


def _flush_output(output: Output | None) -> None:
    """Pass on what was printed beside the tasks without an end of line."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # a task closed a stream, or put something else in its place
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        if output is not None:
            output.install()
