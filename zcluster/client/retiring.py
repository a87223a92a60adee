"""Workers that are to leave while the cluster goes on."""

from __future__ import annotations

import logging
from typing import Any

from zcluster.client.asking import Asking
from zcluster.client.engine import Reply
from zcluster.client.gates import Deadline, Gate
from zcluster.client.packing import nodes_of, unknown_worker, worker_names
from zcluster.client.running import reply_value
from zcluster.config import Time
from zcluster.errors import InvalidArgument
from zcluster.protocol.messages import Message, Retire

__all__ = ["Retiring"]

_log = logging.getLogger("zcluster")

#: Seconds between two looks at what those that are to leave wait for.
_LOOK = 2.0


class Retiring(Asking):
    """`Client.retire_workers`."""

    def retire_workers(
        self,
        workers: Any = None,
        close_workers: bool = True,
        *,
        names: Any = None,
        timeout: Time | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Have workers leave the cluster, and nothing be lost with them; wait for it.

        They get no more work, end what they run, and give back the rest. Where all workers of
        a node are to leave, results that are needed and that are there alone are copied to
        other nodes, and then the nanny ends too and is not started again. Where some stay,
        the node keeps what it has.

        What cannot leave its worker (a generator, an open file) goes with it, and is made again
        if it is needed. An actor keeps its worker here until it is let go of. Where nobody has
        room for what a node has, it stays too, and a warning says so within seconds.

        Parameters
        ----------
        workers : str or list of str, optional
            Names of workers, nodes or hosts, or addresses as `scheduler_info` has them.
            Without them: nodes where nothing runs and nothing is kept, but one of all.
        close_workers : bool
            If False, they stay, without work and data, for whoever started them to end.
        names : str or list of str, optional
            More of ``workers``.
        timeout : float, str or timedelta, optional
            Seconds to wait. What was begun goes on afterwards.

        Returns
        -------
        dict
            What was known of each worker, by name, as `scheduler_info` has it.

        Raises
        ------
        UnknownWorker
            If a name is nobody's.
        TimeoutError
            If they have not left in time; it says what they wait for.

        Examples
        --------
        >>> list(client.retire_workers("node-b"))                # doctest: +SKIP
        ['node-b-0', 'node-b-1']
        """
        deadline = Deadline(timeout)
        known = self.scheduler_info()["workers"]
        chosen = [*worker_names(workers), *worker_names(names)]
        if workers is None and names is None:
            chosen = self._idle_nodes()
        elif not chosen:
            raise InvalidArgument(
                f"found workers {workers!r}, expected names; None stands for those that are idle"
            )
        nodes = {node.index: node for node in self._nodes()}
        for name in chosen:
            if not nodes_of(nodes, name):
                raise unknown_worker(nodes, name)
        if chosen:
            self._wait_retired(chosen, close_workers, deadline)
        ids = ("name", "node", "host", "address")
        return {
            name: info
            for name, info in known.items()
            if not {info[key] for key in ids}.isdisjoint(chosen)
        }

    def _idle_nodes(self) -> list[str]:
        nodes = [node for node in self._engine.ask("info")["nodes"] if not node["away"]]
        kept = self._engine.ask("has_what")
        idle = [
            node["name"]
            for node in nodes
            if not node["assigned"] and not kept.get(node["name"]) and node["workers"]
        ]
        return idle[1:] if len(idle) == len(nodes) else idle

    def _wait_retired(self, chosen: list[str], close: bool, deadline: Deadline) -> None:
        answer = _Answer()

        def make(number: int) -> Message:
            return Retire(number, chosen, close)

        self._engine.send_request(make, (), answer.take)
        told: dict[str, str] = {}
        while True:
            left = deadline.left
            if answer.gate.wait(Deadline(_LOOK if left is None else min(left, _LOOK))):
                break
            reasons = self._engine.ask("retiring")
            if deadline.left == 0.0:
                waits = [f"{name}: {reason}" for name, reason in reasons.items() if reason]
                raise TimeoutError(
                    f"{', '.join(chosen)} had not left after {deadline.seconds:g} s"
                    f"{'; ' if waits else ''}{'; '.join(waits)}"
                )
            for name, reason in reasons.items():
                if reason and told.get(name) != reason:
                    _log.warning("%s has not left yet: %s", name, reason)
            told = reasons
        if answer.reply is None:
            self._engine.check_usable()
        reply_value(answer.reply, "retire_workers")


class _Answer:
    """Waits for the reply to a request."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.reply: Reply | None = None

    def take(self, reply: Reply | None) -> None:
        """Be told it, in the loop's thread; None: there will be none."""
        self.reply = reply
        self.gate.open()
