"""What a client asks its workers: what they run with, and where their tasks are."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from zcluster.client.copying import Copying
from zcluster.client.retiring import Retiring
from zcluster.client.running import Running
from zcluster.client.versions import COMPARED, check_versions
from zcluster.transport.versions import package_versions

__all__ = ["Inspecting"]

#: Seconds that workers have to say where their tasks are.
_PATIENCE = 1.5


class Inspecting(Copying, Retiring, Running):
    """`Client.call_stack` and `Client.get_versions`."""

    def call_stack(self, futures: Any = None, keys: Any = None) -> dict[str, dict[str, list[str]]]:
        r"""Return the frames of tasks that run now: by worker, then by key.

        Parameters
        ----------
        futures : futures, optional
            Of this client; all tasks if neither these nor ``keys`` are given.
        keys : str or list of str, optional
            Keys of futures that this client holds.

        Notes
        -----
        A worker whose task holds the interpreter's lock cannot answer; in place of its tasks
        it has the key ``unresponsive`` then, and a sentence that says for how long.

        Examples
        --------
        >>> client.call_stack(future)                            # doctest: +SKIP
        {'node-0': {'slow-1': ['  File "…", line 3, in slow\n    time.sleep(60)']}}
        """
        asked = [item for item in (futures, keys) if item is not None]
        wanted = {record.task: record.label for item in asked for record in self._asked(item)}
        if asked and not wanted:
            return {}
        answers = self._run_within(_call_stacks, _PATIENCE)
        said = {worker: stacks for worker, stacks in answers.items() if stacks is not None}
        if not asked:
            wanted = self._labels({task for stacks in said.values() for task in stacks})
        shown = {
            worker: {wanted[task]: lines for task, lines in stacks.items() if task in wanted}
            for worker, stacks in said.items()
        }
        found = {worker: stacks for worker, stacks in shown.items() if stacks}
        return found | self._silent(answers.keys() - said)

    def _silent(self, workers: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """Return what is shown of workers that did not answer, if they are here still."""
        silent = sorted(workers)
        if not silent:
            return {}
        known = self.scheduler_info()["workers"]
        reasons = {name: known[name]["metrics"]["reason"] for name in silent if name in known}
        late = f"it did not answer within {_PATIENCE:g} s"
        return {name: {"unresponsive": [reason or late]} for name, reason in reasons.items()}

    def _labels(self, tasks: set[int]) -> dict[int, str]:
        """Return the keys of tasks, also of other clients' and of those that nobody holds."""
        if not tasks:
            return {}
        with self._engine.lock:
            wanted = self._engine.core.wanted
            found = {task: wanted[task].label for task in tasks if task in wanted}
        others = sorted(tasks - set(found))
        if others:
            keys: dict[str, str] = self._engine.ask("keys", others)
            found |= {int(task): key for task, key in keys.items()}
        return found

    def key_of(self, task: int) -> str:
        """Return the key of a task of any client, by the task's number."""
        return self._labels({task})[task]

    def get_versions(self, check: bool = False, packages: Iterable[str] = ()) -> dict[str, Any]:
        """Return the versions that scheduler, workers and this client run with.

        Parameters
        ----------
        check : bool
            Raise if they differ.
        packages : iterable of str
            Look at these, too. The scheduler runs no code of users and says nothing of
            packages that it has no use for.

        Raises
        ------
        VersionMismatch
            If they are to be checked and differ; the message has a table.

        Examples
        --------
        >>> client.get_versions()["client"]["packages"]["python"]    # doctest: +SKIP
        '3.12.1'
        """
        names = [*COMPARED, *([packages] if isinstance(packages, str) else packages)]
        scheduler = self._engine.ask("info").get("versions", {})
        workers = self.run(package_versions, names) or {}
        client = package_versions(names)
        if check:
            check_versions({"scheduler": scheduler, "client": client} | workers)
        return {
            "scheduler": {"packages": scheduler},
            "workers": {name: {"packages": versions} for name, versions in workers.items()},
            "client": {"packages": client},
        }


def _call_stacks() -> dict[int, list[str]]:
    """Runs in a worker, whose modules are beside the client in the tree, not below."""
    name = importlib.import_module("zcluster.servers.calls").get_worker().name
    stacks = importlib.import_module("zcluster.servers.call_stacks").call_stacks(name)
    found: dict[int, list[str]] = stacks
    return found
