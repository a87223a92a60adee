"""Letting go: of results, then of rows.

* A result is needed while a client wants it or a consumer is unfinished
  (``refs``); after that, nodes let it go and the row is RELEASED.
* A row is needed while any row lists it as an input (``kin``), because that
  consumer may be lost and run again; after that it is forgotten.
"""

from __future__ import annotations

from zcluster.core.scheduler.pages import (
    PAGE_BITS,
    PASSING,
    WANTED,
    Page,
)
from zcluster.core.scheduler.records import ClientRecord, LayerRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State

__all__ = [
    "drop_ref",
    "drop_want",
    "drop_whole_refs",
    "forget_layer",
    "forget_some",
    "release",
    "shorten_layer",
]

_WAITING, _AHEAD, _READY, _ASSIGNED = State.WAITING, State.AHEAD, State.READY, State.ASSIGNED
_FINISHED, _RELEASED, _FAILED, _CANCELLED = (
    State.FINISHED,
    State.RELEASED,
    State.FAILED,
    State.CANCELLED,
)
_FORGOTTEN = State.FORGOTTEN
_ENDED = (_RELEASED, _FAILED, _CANCELLED)
#: Not finished, not failed, not cancelled.
_OPEN = (_WAITING, _AHEAD, _READY, _ASSIGNED)


def drop_want(s: SchedulerState, client: ClientRecord, task: int) -> None:
    """A client holds a task no more."""
    found = s.find(task)
    if found is None:
        return
    page, row = found
    if task >> 40 == client.index:
        if not page.flags[row] & WANTED:
            return
        page.flags[row] &= ~WANTED & 0xFF
    else:
        others = s.wants.get(task)
        if others is None or client.index not in others:
            return
        others.discard(client.index)
        if not others:
            del s.wants[task]
    drop_ref(s, task, page, row)


def drop_ref(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """One client or consumer less needs a task."""
    page.refs[row] -= 1
    if page.refs[row] == 0:
        release(s, task, page, row)


def release(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """Let go of what nobody needs: a result, or a task not yet run."""
    state = page.state[row]
    if state == _FINISHED:
        page.state[row] = _RELEASED
        if not page.flags[row] & PASSING:
            node = page.node[row]
            if node in s.nodes:
                s.frees.setdefault(node, []).append(task)
                s.freed_bytes += page.size[row]
            if s.replicas and task in s.replicas:
                s.free(task, s.replicas.pop(task))
        page.node[row] = -1
        if s.inline:
            s.forget_inline(task)
    elif state in _OPEN:
        # Its inputs may now be unneeded too: a chain may be long, so no recursion.
        s.unneeded.append(task)
        return
    if page.kin[row] == 0:
        s.dying.append(task)


def forget_some(s: SchedulerState, most: int) -> None:
    """Forget rows that nobody lists as an input any more, a few at a time."""
    dying = s.dying
    pages = s.pages
    while dying and most > 0:
        most -= 1
        task = dying.popleft()
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        if page.kin[row] or page.refs[row] or page.state[row] not in _ENDED:
            continue
        for task_in in page.indices[page.indptr[row] : page.indptr[row + 1]]:
            source = pages[task_in >> PAGE_BITS]
            at = task_in - source.start
            kin = source.kin[at] - 1
            source.kin[at] = kin
            if kin == 0 and source.refs[at] == 0:
                dying.append(task_in)
        _forget_row(s, task, page, row)


def _forget_row(s: SchedulerState, task: int, page: Page, row: int) -> None:
    layer = page.layer[row]
    if page.state[row] == _FAILED:
        s.failures.pop(task, None)
    page.state[row] = _FORGOTTEN
    page.heir[row] = -1
    if page.more:
        page.more.pop(row, None)
    if layer.shared and layer.keys is not None:
        key = layer.keys[task - layer.first]
        if s.keys.get(key) == task:
            del s.keys[key]
    page.live -= 1
    if page.live == 0:
        del s.pages[task >> PAGE_BITS]
    layer.forgotten += 1
    if layer.forgotten == layer.count:
        forget_layer(s, layer)


def shorten_layer(s: SchedulerState, layer: LayerRecord) -> None:
    """The rest of a layer will never arrive: its client left."""
    if not layer.arrived:
        layer.whole = []  # it did not get so far as to take them
    absent = layer.count - layer.arrived
    layer.count = layer.arrived
    if layer.whole:
        layer.unfinished -= absent
        if layer.unfinished == 0:
            drop_whole_refs(s, layer)
    if layer.forgotten == layer.count:
        forget_layer(s, layer)


def forget_layer(s: SchedulerState, layer: LayerRecord) -> None:
    """The last row of a layer was forgotten."""
    del s.layers[layer.number]
    for source in layer.whole:
        source.watchers.remove(layer)
        for task in range(source.first, source.first + source.count):
            found = s.find(task)
            if found is not None:
                found[0].kin[found[1]] -= 1
                if found[0].kin[found[1]] == 0 and found[0].refs[found[1]] == 0:
                    s.dying.append(task)
    for index in layer.nodes:
        node = s.nodes.get(index)
        if node is not None:
            node.layers.discard(layer.number)
            s.forgotten_layers.setdefault(index, []).append(layer.number)
    if layer.function:
        s.release_function(layer.function)


def drop_whole_refs(s: SchedulerState, layer: LayerRecord) -> None:
    """No task of a layer needs the layers it takes all of any more."""
    for source in layer.whole:
        for task in range(source.first, source.first + source.count):
            found = s.find(task)
            if found is not None:
                drop_ref(s, task, *found)
