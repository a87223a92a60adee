"""Submissions: from the arrays on the wire to rows.

Rows are appended a layer part at a time. Tasks without inputs are appended and
queued as one run, with no loop over them; tasks with inputs cost a loop over
their edges, in which inputs are counted and consumers noted.

A submission may come in several slices, and its first tasks run while later
slices are on their way. Until the last slice is here, each row is held by one
extra reference: a consumer may yet come.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from zcluster.core.scheduler.assigning import enqueue, queue_ahead
from zcluster.core.scheduler.failing import inherit_trouble
from zcluster.core.scheduler.pages import DATA, PAGE_BITS, PARTIAL, WANTED, Page
from zcluster.core.scheduler.queues import base_rank
from zcluster.core.scheduler.recomputing import cannot_run_again, need, relink
from zcluster.core.scheduler.records import (
    ClientRecord,
    FunctionRecord,
    LayerRecord,
    Profile,
    Submission,
)
from zcluster.core.scheduler.releasing import drop_ref, forget_layer, shorten_layer
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import UNFINISHED, State
from zcluster.errors import ProtocolError
from zcluster.graph.columns import Columns, read_part, row_width
from zcluster.protocol.frames import span
from zcluster.protocol.messages import Layer, LayerPart, Submit
from zcluster.types import Frames

__all__ = ["CALL_ALIAS", "CALL_VALUE", "complete", "submit"]

#: Call forms (see `zcluster.protocol.calls`) that the scheduler must tell apart.
CALL_VALUE = 3
CALL_ALIAS = 4

_WAITING, _READY, _ASSIGNED, _FINISHED = State.WAITING, State.READY, State.ASSIGNED, State.FINISHED
_RELEASED = State.RELEASED
_OPEN = UNFINISHED


def submit(s: SchedulerState, client: ClientRecord, message: Submit, frames: Frames) -> None:
    """Take in one slice of a submission.

    Raises
    ------
    ProtocolError
        If the slice contradicts itself or an earlier one.
    """
    submission = client.submissions.get(message.submission)
    if submission is None:
        submission = _begin(s, client, message)
    if message.first != submission.arrived or message.count < 0:
        raise ProtocolError(
            f"a slice of submission {message.submission} begins with task {message.first}, "
            f"expected {submission.arrived}"
        )
    if client.next_task != submission.first + submission.arrived:
        raise ProtocolError("slices of two submissions are mixed")
    client.next_task += message.count
    _revive(s, submission.imports)
    for digest, place in message.functions:
        if digest not in s.functions:
            s.functions[digest] = FunctionRecord(digest, bytes(span(frames, place)))
    for layer in message.layers:
        _begin_layer(s, submission, layer)
    trouble: list[tuple[int, int]] = []
    reader = _PartReader(s, client, submission, frames, message, trouble)
    try:
        for part in message.parts:
            reader.add(part)
        if submission.arrived != message.first + message.count:
            raise ProtocolError(
                f"a slice of {message.count} tasks brought {submission.arrived - message.first}"
            )
    finally:
        # Also where a later part is refused: those before it have arrived.
        for task, source in trouble:
            inherit_trouble(s, task, source)
    submission.complete = message.last
    if message.last:
        complete(s, submission)
        del client.submissions[message.submission]


def _begin(s: SchedulerState, client: ClientRecord, message: Submit) -> Submission:
    s.generation += 1
    submission = Submission(
        number=message.submission,
        base=s.generation,
        first=client.next_task,
        imports=message.imports,
        outputs=message.outputs,
        layers=[],
    )
    client.submissions[message.submission] = submission
    return submission


def _revive(s: SchedulerState, tasks: Iterable[int]) -> None:
    """See that results that new tasks will take are there or are made again.

    For each slice anew: what was there at the first may have been lost since.
    """
    gone: list[int] = []
    for task in tasks:
        found = s.find(task)
        if found is not None and found[0].state[found[1]] == _RELEASED:
            gone.append(task)
    if gone:
        again: set[int] = set()
        need(s, gone, again)
        relink(s, again)


def _begin_layer(s: SchedulerState, submission: Submission, layer: Layer) -> None:
    if layer.count < 1:
        raise ProtocolError(f"layer {layer.name!r} has {layer.count} tasks, expected some")
    if layer.function and layer.function not in s.functions:
        raise ProtocolError(f"layer {layer.name!r} uses a callable that was not sent")
    if layer.keys is not None and len(layer.keys) != layer.count:
        raise ProtocolError(
            f"layer {layer.name!r} has {len(layer.keys)} keys for {layer.count} tasks"
        )
    if any(not 0 <= number < len(submission.layers) for number in layer.whole):
        raise ProtocolError(f"layer {layer.name!r} takes all of a layer that is not before it")
    owner = s.client_of(submission.first)
    is_inner = owner is not None and owner.is_inner
    record = LayerRecord(
        number=s.next_layer,
        name=layer.name,
        first=submission.first + layer.first,
        count=layer.count,
        call=layer.call,
        function=layer.function,
        base=base_rank(layer.priority, submission.base, is_inner),
        retries=layer.retries,
        shape=layer.shape,
        keys=layer.keys,
        shared=layer.shared and layer.keys is not None,
        slots=layer.slots,
        whole=[submission.layers[number] for number in layer.whole],
        whole_slots=layer.whole_slots,
        profile=_profile(layer),
        preferred=tuple(layer.workers),
        priority=layer.priority,
        needs=layer.needs,
    )
    s.next_layer += 1
    s.layers[record.number] = record
    submission.layers.append(record)
    submission.described.append(layer)
    if record.function:
        s.use_function(record.function)
    if record.whole:
        record.unfinished = record.count


def _profile(layer: Layer) -> Profile | None:
    """Return what a worker must be for a layer; None if any will do."""
    workers = () if layer.allow_other_workers else tuple(layer.workers)
    needs = layer.needs
    if needs is None:
        return Profile(workers) if workers else None
    if needs.threads < 1 or any(not amount > 0 for amount in needs.resources.values()):
        raise ProtocolError(f"layer {layer.name!r} needs {needs}, expected amounts above zero")
    profile = Profile(workers, tuple(sorted(needs.resources.items())), needs.threads)
    return None if profile == Profile() else profile


def _watch(s: SchedulerState, source: LayerRecord, watcher: LayerRecord) -> None:
    """Have every task of a layer be an input of every task of another."""
    count_anew = not source.watchers and not source.whole
    source.watchers.append(watcher)
    unfinished = 0
    for task in range(source.first, source.first + source.count):
        page, row = s.row_of(task)
        page.refs[row] += 1
        page.kin[row] += 1
        state = page.state[row]
        unfinished += state in _OPEN
        if state in (State.FAILED, State.CANCELLED):
            source.failed = task
    if count_anew:
        source.unfinished = unfinished


# ----------------------------------------------------------------------------- parts


class _PartReader:
    """Appends the rows of one slice; what is the same for all of them stands here."""

    def __init__(
        self,
        s: SchedulerState,
        client: ClientRecord,
        submission: Submission,
        frames: Frames,
        message: Submit,
        trouble: list[tuple[int, int]],
    ) -> None:
        self._s = s
        self._client = client
        self._submission = submission
        self._frames = frames
        self._end = message.first + message.count
        self._hold = not message.last
        #: (task, input) where the input failed, was cancelled or is not known.
        self._trouble = trouble

    def add(self, part: LayerPart) -> None:
        """Append the rows of a part."""
        submission = self._submission
        if not 0 <= part.layer < len(submission.layers):
            raise ProtocolError(f"a part names layer {part.layer} of {len(submission.layers)}")
        layer = submission.layers[part.layer]
        first = submission.first + part.first
        if part.first != submission.arrived or first != layer.first + layer.arrived:
            raise ProtocolError(
                f"a part of layer {layer.name!r} begins at {part.first}, out of order"
            )
        if layer.arrived + part.count > layer.count:
            raise ProtocolError(f"layer {layer.name!r} has more tasks than its {layer.count}")
        columns = read_part(
            part,
            self._frames,
            end=self._end,
            imports=len(submission.imports),
            layer=submission.described[part.layer],
        )
        if not layer.arrived:
            for source in layer.whole:
                # All of them before any is changed: a refused part must leave nothing behind.
                if source.arrived != source.count:
                    raise ProtocolError(
                        f"layer {source.name!r} is taken whole before all of it arrived"
                    )
            for source in layer.whole:
                _watch(self._s, source, layer)
        submission.arrived += part.count
        layer.arrived += part.count
        if self._hold:
            submission.held = submission.arrived
        #: How far the part's selection table has been read.
        self._selected = 0
        aliases = _known_keys(self._s, layer, first, part.count) if layer.shared else {}
        if aliases:
            _revive(self._s, set(aliases.values()))
        task, end = first, first + part.count
        while task < end:
            stop = min(end, self._s.page_end(task))
            self._add_rows(layer, columns, first, task, stop, aliases)
            task = stop

    def _add_rows(
        self,
        layer: LayerRecord,
        columns: Columns,
        part_first: int,
        task: int,
        stop: int,
        aliases: dict[int, int],
    ) -> None:
        """Append the rows of tasks ``task`` to ``stop``, which lie in one page."""
        page = self._s.page_for(task)
        at, count = task - part_first, stop - task
        first = self._submission.first
        orders: Sequence[int] = range(task - first, stop - first)
        if columns.orders is not None:
            orders = columns.orders[at : at + count]
        lengths: Sequence[int] | None = None
        constants: bytes | memoryview = b""
        if columns.offsets is not None:
            offsets = columns.offsets[at : at + count + 1]
            lengths = [offsets[k + 1] - offsets[k] for k in range(count)]
            constants = columns.constants[offsets[0] : offsets[count]]
        is_data = layer.call == CALL_VALUE and columns.offsets is None
        row = len(page)
        page.extend(layer, _WAITING, DATA if is_data else 0, orders, lengths, constants)
        _want(self._submission, page, row, task, stop, self._hold)
        if aliases:
            _replace_aliases(self._s, self._submission, page, aliases, task, stop)
            if is_data:
                self._expect_data(page, task, stop, aliases)
                return
        elif columns.arity == 0 and not layer.whole:
            page.indptr.extend(array("I", [len(page.indices)]) * count)
            if is_data:
                for k in range(row, row + count):
                    page.missing[k] = page.unplaced[k] = 1
            else:
                self._queue_run(layer, page, row, task, count, columns.orders is None)
            return
        self._link_all(layer, columns, page, part_first, task, stop, aliases)

    def _link_all(
        self,
        layer: LayerRecord,
        columns: Columns,
        page: Page,
        part_first: int,
        task: int,
        stop: int,
        aliases: dict[int, int],
    ) -> None:
        """Give new rows their inputs and selections."""
        at, arity, indptr = task - part_first, columns.arity, columns.indptr
        ends: Sequence[int]
        if indptr is None:
            ends = range(at * arity, (stop - part_first + 1) * arity, arity) if arity else ()
        else:
            ends = indptr[at : at + stop - task + 1]
        sources = self._sources(columns.indices[ends[0] : ends[-1]]) if ends else []
        has_table = len(columns.selections) > 0
        low = 0
        for k in range(stop - task):
            current = task + k
            high = ends[k + 1] - ends[0] if ends else 0
            taken = sources[low:high]
            low = high
            if has_table:
                width = row_width(layer.slots, layer.whole_slots, len(taken))
                row_of_table = columns.selections[self._selected : self._selected + width]
                self._selected += width
                if current not in aliases:
                    page.selections[current - page.start] = list(row_of_table)
            if current in aliases:
                self._link(page.layer[current - page.start], page, current, [aliases[current]])
            else:
                self._link(layer, page, current, taken)

    def _expect_data(self, page: Page, task: int, stop: int, aliases: dict[int, int]) -> None:
        """Have data tasks wait for their data, but for those that are known already."""
        for current in range(task, stop):
            row = current - page.start
            if current in aliases:
                page.flags[row] &= ~DATA & 0xFF
                self._link(page.layer[row], page, current, [aliases[current]])
            else:
                page.indptr.append(len(page.indices))
                page.missing[row] = page.unplaced[row] = 1

    def _queue_run(
        self, layer: LayerRecord, page: Page, row: int, task: int, count: int, consecutive: bool
    ) -> None:
        """Queue tasks without inputs, as one entry where their ranks allow it."""
        if consecutive and layer.profile is None:
            page.state[row : row + count] = bytes((_READY,)) * count
            entry = (layer.base + page.order[row], task, count)
            self._s.queues.push(self._client.index, entry)
            return
        for k in range(count):
            enqueue(self._s, task + k, page, row + k)

    def _sources(self, indices: Sequence[int]) -> list[int]:
        """Return inputs, as tasks."""
        base, own, imports = self._submission.first, self._end, self._submission.imports
        if not imports:
            return [base + index for index in indices]
        return [base + index if index < own else imports[index - own] for index in indices]

    def _link(self, layer: LayerRecord, page: Page, task: int, sources: list[int]) -> None:
        """Count the inputs of a new row, and note it as a consumer of each."""
        s = self._s
        row = task - page.start
        missing = unplaced = 0
        known = True
        for source_task in sources:
            source = s.pages.get(source_task >> PAGE_BITS)
            k = source_task - source.start if source is not None else -1
            if source is None or not 0 <= k < len(source.state) or not source.state[k]:
                self._trouble.append((task, source_task))
                known = False
                continue
            source.refs[k] += 1
            source.kin[k] += 1
            state = source.state[k]
            if state == _FINISHED:
                continue
            missing += 1
            if state > _RELEASED:
                self._trouble.append((task, source_task))
                unplaced += 1
                continue
            if state != _ASSIGNED:
                unplaced += 1
            if source.heir[k] < 0:
                source.heir[k] = task
            else:
                source.more.setdefault(k, []).append(task)
        if not known:
            sources = [source_task for source_task in sources if s.find(source_task) is not None]
            missing += 1
            page.flags[row] |= PARTIAL
        if layer.whole:
            for source_layer in layer.whole:
                # One that failed never is all there.
                if source_layer.failed >= 0:
                    self._trouble.append((task, source_layer.failed))
                if source_layer.unfinished > 0 or source_layer.failed >= 0:
                    missing += 1
                    unplaced += 1
        page.indices.extend(sources)
        page.indptr.append(len(page.indices))
        page.missing[row] = missing
        page.unplaced[row] = unplaced
        if missing == 0:
            enqueue(s, task, page, row)
        elif unplaced == 0:
            _try_ahead(s, task, page, row)


def _known_keys(s: SchedulerState, layer: LayerRecord, first: int, count: int) -> dict[int, int]:
    """Register shared keys; return the tasks whose key is another task's already."""
    assert layer.keys is not None
    aliases: dict[int, int] = {}
    keys = s.keys
    for task in range(first, first + count):
        key = layer.keys[task - layer.first]
        known = keys.setdefault(key, task)
        if known != task:
            found = s.find(known)
            if found is None or _is_over(*found):
                keys[key] = task
            else:
                aliases[task] = known
    return aliases


def _is_over(page: Page, row: int) -> bool:
    """Whether nothing is to be had of a task any more, so that an equal call runs anew."""
    state = page.state[row]
    return state in (State.FAILED, State.CANCELLED) or (
        state == _RELEASED and cannot_run_again(page, row)
    )


def _want(submission: Submission, page: Page, row: int, task: int, stop: int, hold: bool) -> None:
    shift = row - task
    for start, count in submission.outputs:
        low = max(task, submission.first + start)
        high = min(stop, submission.first + start + count)
        for k in range(low + shift, high + shift):
            page.flags[k] |= WANTED
            page.refs[k] += 1
    if hold:
        for k in range(row, row + stop - task):
            page.refs[k] += 1


def _replace_aliases(
    s: SchedulerState,
    submission: Submission,
    page: Page,
    aliases: dict[int, int],
    task: int,
    stop: int,
) -> None:
    """Make tasks whose key exists already into takers of that task's result."""
    for alias in range(task, stop):
        if alias not in aliases:
            continue
        row = alias - page.start
        old = page.layer[row]
        record = LayerRecord(
            number=s.next_layer,
            name=str(old.key(alias)),
            first=alias,
            count=1,
            call=CALL_ALIAS,
            function=b"",
            base=base_rank(old.priority, submission.base),
            retries=0,
            shape=[],
            keys=None,
            shared=False,
            slots=[],
            whole=[],
            whole_slots=[],
            profile=None,
            preferred=(),
            priority=old.priority,
            arrived=1,
            watchers=old.watchers,
            parent=old,
        )
        s.next_layer += 1
        s.layers[record.number] = record
        page.layer[row] = record
        old.forgotten += 1
        if old.forgotten == old.count:
            forget_layer(s, old)


def _try_ahead(s: SchedulerState, task: int, page: Page, row: int) -> None:
    for source_task in page.inputs(row):
        source = s.pages[source_task >> PAGE_BITS]
        k = source_task - source.start
        if source.state[k] == _ASSIGNED:
            queue_ahead(s, task, page, row, source.node[k])
            return


def complete(s: SchedulerState, submission: Submission) -> None:
    """The last slice is here (or will never come): let go of the rows held for it."""
    for layer in submission.layers:
        if layer.arrived < layer.count:
            shorten_layer(s, layer)
    held = submission.held
    submission.held = 0
    for task in range(submission.first, submission.first + held):
        found = s.find(task)
        if found is not None:
            drop_ref(s, task, *found)
