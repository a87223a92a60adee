"""A cluster on this machine: one scheduler and one nanny with its workers.

`LocalCluster` checks its arguments at the call, fixes the addresses beforehand in
one private folder, and has a `Supervisor` start the two commands side by side:
``zcluster-scheduler`` and ``zcluster-worker``, as anybody would in a shell. They never
run the user's ``__main__`` again, so no ``if __name__ == "__main__"`` is needed.

With ``processes=False`` another launcher runs the same two as threads of this process.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
import time
import warnings
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zcluster import config
from zcluster.config import (
    Settings,
    Time,
    cpu_count,
    format_bytes,
    memory_total,
    parse_memory_limit,
    parse_timedelta,
)
from zcluster.errors import InvalidArgument, SchedulerLost, StartError
from zcluster.launching import Command, find_launcher
from zcluster.tracebacks import hides_frames
from zcluster.transport.scratch import ipc_address

from .describing import Status, format_limit
from .html import cluster_html
from .keywords import OF_CLUSTERS, drop_needless
from .supervisor import Supervisor

__all__ = ["LocalCluster", "split_machine"]

# More than any one machine has; a number above it is a slip that would take the machine down.
_MOST = 4096

#: How the names of modules begin that a warning passes over on its way to the caller.
_PACKAGE = "zcluster."


class LocalCluster:
    """A scheduler, a nanny and its workers on this machine.

    Parameters
    ----------
    n_workers : int, optional
        Worker processes; 0 starts a scheduler alone.
    threads_per_worker : int, optional
        Slots in each. What is not given is chosen so that together they fill the
        machine.
    memory_limit : int, float or str
        For each worker: ``"1GB"``, a fraction of the machine, ``"auto"`` for an equal
        share, 0 for no limit.
    processes : bool
        If False, scheduler, nanny and workers are threads of this process. Without
        ``n_workers`` it is one worker then, with all the threads. Functions of modules see
        the objects of those modules, here and now; those of a script or notebook travel as
        copies, with the globals they use.
    name : str, optional
        The node's name.
    local_directory : str or Path, optional
        Where results go that memory has no room for.
    scheduler_file : str or Path, optional
        Where to say how to reach the scheduler, for other processes of this user.
    resources : dict of str to float, optional
        What each worker has of abstract resources, such as ``{"GPU": 1}``.
    env : dict of str to str, optional
        Environment variables of the workers, beside those of this process.
    death_timeout : float, str or timedelta, optional
        How long the nanny waits for its scheduler.
    allowed_failures : int, optional
        How many workers a task may take down; it fails with the last of them. Without it,
        ``cluster.allowed-failures`` of the configuration.
    nthreads : int, optional
        Another name of ``threads_per_worker``.
    settings : Settings, optional
        Timings.

    Attributes
    ----------
    scheduler_address : str
    n_workers, threads_per_worker, memory_limit : int
    processes : bool

    Raises
    ------
    InvalidArgument
        At the call, for anything that cannot be meant.

    Examples
    --------
    ::

        with LocalCluster(n_workers=2, threads_per_worker=2, memory_limit="1GB") as cluster:
            client = Client(cluster)
    """

    @hides_frames
    def __init__(
        self,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        memory_limit: int | float | str | None = None,
        processes: bool = True,
        *,
        name: str | None = None,
        local_directory: str | os.PathLike[str] | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        resources: Mapping[str, float] | None = None,
        env: Mapping[str, str] | None = None,
        death_timeout: Time | None = None,
        allowed_failures: int | None = None,
        nthreads: int | None = None,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        _check_options(processes, name, options)
        cpus = cpu_count()
        if threads_per_worker is None:
            threads_per_worker = nthreads
        if threads_per_worker is None:
            threads_per_worker = config.get("worker.threads")
        if memory_limit is None:
            memory_limit = config.get("worker.memory-limit")
        if not processes and n_workers is None:
            n_workers = 1
        workers, threads = split_machine(n_workers, threads_per_worker, cpus)
        self.n_workers = workers
        self.threads_per_worker = threads
        self.processes = processes
        self.memory_limit = parse_memory_limit(memory_limit, min(1.0, threads / cpus))
        _warn_of_memory(self.memory_limit)
        self.name = "local" if name is None else name
        self._settings = Settings() if settings is None else settings
        self._options = _options_of(local_directory, resources, death_timeout)
        if not processes:
            self._options += ["--store-limit", str(self._store_limit())]
        self._scheduler_file = None if scheduler_file is None else Path(scheduler_file).absolute()
        # Found here and not on the supervisor's thread: who is not installed is told at the call,
        # and an import cut short in another thread would hide Ctrl-C's exit status.
        launcher = find_launcher("local" if processes else "threads")
        # Bound to plain values, not to self: the supervisor must not keep the cluster alive.
        self._supervisor = Supervisor(
            launcher,
            partial(
                _scheduler_command, self.name, self._scheduler_file, _allowed(allowed_failures)
            ),
            partial(_nanny_command, self._worker_options(), _variables(env, processes))
            if workers
            else None,
            self._settings,
        )
        self._start()

    def _start(self) -> None:
        # Before the start: whatever interrupts it, the end of this object ends the processes.
        self._finalizer = weakref.finalize(self, self._supervisor.request_stop)
        self._finalizer.atexit = False  # the supervisors' own hook also waits
        try:
            scratch = self._supervisor.start()
        except BaseException:
            self._supervisor.request_stop()
            raise
        self.scheduler_address = scratch.address("scheduler")
        self._started = time.time()

    # -------------------------------------------------------------------- state

    @property
    def status(self) -> Status:
        """``"running"``, ``"closed"``, or ``"failed"`` when it ended without being asked."""
        if self._supervisor.failure is not None:
            return Status.failed
        return Status.closed if self._supervisor.is_stopped else Status.running

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the scheduler and the nanny, as far as they run and are processes."""
        return tuple(pid for pid in self._supervisor.pids if pid != os.getpid())

    def wait_started(self, timeout: Time | None = None) -> LocalCluster:
        """Wait until the scheduler listens; workers may still be on their way.

        Connecting earlier works too: a connection is tried until somebody listens.

        Raises
        ------
        StartError
            If it ended, was closed, or takes longer than ``timeout`` seconds
            (``Settings.start_timeout`` if absent).
        """
        seconds = self._settings.start_timeout if timeout is None else parse_timedelta(timeout)
        socket = Path(self.scheduler_address.removeprefix("ipc://"))
        deadline = time.monotonic() + seconds
        while not socket.exists():
            if self._supervisor.wait_stopped(0.005):
                raise StartError(
                    self._supervisor.describe_failure()
                    or "the cluster was closed before it had started"
                )
            if time.monotonic() > deadline:
                raise StartError(
                    f"the scheduler did not listen at {self.scheduler_address} within "
                    f"{seconds:g} s; its messages are on standard error"
                )
        return self

    def check_running(self) -> None:
        """Raise if the cluster cannot be used any more.

        Raises
        ------
        SchedulerLost
            If it was closed, or its scheduler ended.
        """
        if self._supervisor.failure is not None:
            raise SchedulerLost(self._supervisor.describe_failure())
        if self._supervisor.is_stopped:
            raise SchedulerLost("the local cluster was closed; make a new one")

    def get_client(self) -> Any:
        """Return a new client of this cluster."""
        return self._client()

    def _client(self, **options: Any) -> Any:
        # By name: a client knows clusters, not the other way round.
        return importlib.import_module("zcluster.client.client").Client(self, **options)

    def wait_for_workers(self, n_workers: int = 1, timeout: Time | None = None) -> None:
        """Wait until there are so many workers.

        Raises
        ------
        NoWorkers
            If there are fewer after ``timeout`` seconds.
        """
        with self._client(set_as_default=False) as client:
            client.wait_for_workers(n_workers, timeout)

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """What is known of the scheduler and its workers, as of `Client.scheduler_info`.

        The scheduler is asked, by a client that is made for it.
        """
        with self._client(set_as_default=False) as client:
            info: dict[str, Any] = client.scheduler_info()
        return info

    @property
    def workers(self) -> dict[str, dict[str, Any]]:
        """What is known of the workers that can be reached, by name; asks the scheduler."""
        workers: dict[str, dict[str, Any]] = self.scheduler_info["workers"]
        return workers

    @property
    def dashboard_link(self) -> str | None:
        """Where it can be looked at in a browser: None, for there is no dashboard."""
        return None

    def scale(self, n: int) -> None:
        """Have so many workers: as many as there are, for a local cluster keeps its size.

        Raises
        ------
        NotImplementedError
            For another number.
        """
        _check_count("n", n, 0)
        if n != self.n_workers:
            raise NotImplementedError(
                f"a local cluster keeps the {self.n_workers} workers it was started with, and was "
                f"asked for {n}; make one with n_workers={n}, or start zcluster-worker beside it"
            )

    def close(self, timeout: Time | None = None) -> None:
        """End the processes and remove their folder; again does nothing.

        They are told to stop, and killed after ``Settings.stop_grace`` (1 s). If Ctrl-C
        interrupts this, the end goes on without us.

        Parameters
        ----------
        timeout : float, str or timedelta, optional
            Seconds to wait here; the end goes on afterwards.
        """
        self._supervisor.request_stop()
        grace = 2 * self._settings.stop_grace + 0.5
        self._supervisor.wait_stopped(grace if timeout is None else parse_timedelta(timeout))

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        memory = format_limit(self.memory_limit * self.n_workers)
        return (
            f"<LocalCluster: {self.scheduler_address!r} {self.status} processes={self.n_workers} "
            f"threads={self.n_workers * self.threads_per_worker}, memory={memory}>"
        )

    def _repr_html_(self) -> str:
        worker = {
            "nthreads": self.threads_per_worker,
            "memory_limit": self.memory_limit,
        }
        return cluster_html(
            self.scheduler_address,
            [worker] * self.n_workers,
            kind="LocalCluster",
            name=self.name,
            status=self.status,
            processes=self.processes,
            started=self._started,
            now=time.time(),
        )

    def _store_limit(self) -> int:
        total = memory_total()
        limit = self.n_workers * self.memory_limit
        return int(self._settings.store_share * (min(limit, total) if limit else total))

    def _worker_options(self) -> tuple[str, ...]:
        return (
            *("--nworkers", str(self.n_workers)),
            *("--nthreads", str(self.threads_per_worker)),
            *("--memory-limit", str(self.memory_limit)),
            *("--name", self.name),
            *self._options,
        )


def split_machine(workers: int | None, threads: int | None, cpus: int) -> tuple[int, int]:
    """Return how many workers with how many threads, as Dask chooses them.

    Up to four processors each gets a worker; beyond, workers and threads are near the
    square root, with a few more workers.

    Raises
    ------
    InvalidArgument
        If a number given cannot be meant.

    Examples
    --------
    >>> split_machine(None, None, 16), split_machine(2, None, 16), split_machine(None, 3, 16)
    ((4, 4), (2, 8), (5, 3))
    """
    if workers is not None:
        _check_count("n_workers", workers, 0)
    if threads is not None:
        _check_count("threads_per_worker", threads, 1)
    if workers is None and threads is None:
        workers = cpus
        if cpus > 4:
            workers = min(n for n in range(1, cpus + 1) if cpus % n == 0 and n >= math.sqrt(cpus))
    if workers is None:
        workers = max(1, cpus // (threads or 1))
    if threads is None:
        threads = max(1, cpus // max(1, workers))
    return workers, threads


def _check_count(what: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(
            f"{what} is a {type(value).__name__} ({value!r}), expected a whole number or None"
        )
    if not least <= value <= _MOST:
        raise InvalidArgument(f"{what} is {value}, expected {least} to {_MOST}, or None to choose")


def _check_options(processes: object, name: object, options: dict[str, Any]) -> None:
    if not isinstance(processes, bool):
        raise InvalidArgument(
            f"processes is {processes!r}, expected True, or False for threads of this process"
        )
    if not (name is None or (isinstance(name, str) and name and not name.startswith("-"))):
        raise InvalidArgument(f"name is {name!r}, expected text such as 'local', or None")
    drop_needless(options, OF_CLUSTERS)
    unknown = sorted(options)
    if unknown:
        raise InvalidArgument(
            f"LocalCluster has no option {', '.join(unknown)}; expected n_workers, "
            "threads_per_worker, memory_limit, processes, name, local_directory, scheduler_file, "
            "resources, env, death_timeout, allowed_failures"
        )


def _options_of(
    local_directory: str | os.PathLike[str] | None,
    resources: Mapping[str, float] | None,
    death_timeout: Time | None,
) -> list[str]:
    """Return options of the nanny's command."""
    options: list[str] = []
    if local_directory is not None:
        options = ["--local-directory", str(_existing_folder(local_directory))]
    if resources:
        options += ["--resources", _resources_text(resources)]
    if death_timeout is not None:
        options += ["--death-timeout", str(parse_timedelta(death_timeout))]
    return options


def _existing_folder(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InvalidArgument(f"local_directory is {path!r}, expected the path of a folder")
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise InvalidArgument(
            f"local_directory {str(path)!r} is not a folder; make it first, or leave it out"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidArgument(
            f"local_directory {str(path)!r} cannot be written to; name another, or leave it out"
        )
    return folder


def _warn_of_memory(limit: int) -> None:
    if limit > memory_total():
        warnings.warn(
            f"memory_limit of {format_bytes(limit)} for each worker is more than this machine's "
            f"{format_bytes(memory_total())}; the system will end workers before the limit does",
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """Return the stack level of the code that made a cluster, perhaps by making a client.

    As for a function that calls this one and warns.
    """
    level = 2
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    return level


def _resources_text(resources: Mapping[str, float]) -> str:
    """Return resources as the worker's command line has them."""
    if not isinstance(resources, Mapping):
        raise InvalidArgument(f"resources is {resources!r}, expected a dict such as {{'GPU': 1}}")
    for name, amount in resources.items():
        is_amount = isinstance(amount, int | float) and 0 <= amount < math.inf
        if not re.fullmatch(r"[^\s,=]+", str(name)) or not is_amount:
            raise InvalidArgument(
                f"resources has {name!r}: {amount!r}; expected names without blanks, and amounts "
                "of zero or more, such as {'GPU': 1}"
            )
    return " ".join(f"{name}={float(amount)!r}" for name, amount in resources.items())


def _allowed(failures: int | None) -> tuple[str, ...]:
    """Return the scheduler's option for what a task may take down, checked."""
    if failures is None:
        return ()
    _check_count("allowed_failures", failures, 1)
    return ("--allowed-failures", str(failures))


def _scheduler_command(
    name: str, scheduler_file: Path | None, more: tuple[str, ...], scratch: Path
) -> Command:
    options = ["--address", ipc_address(scratch / "scheduler"), "--scratch", str(scratch)]
    options += ["--name", name, *more]
    if scheduler_file is not None:
        options += ["--scheduler-file", str(scheduler_file)]
    return Command("scheduler", tuple(options))


def _nanny_command(
    options: tuple[str, ...], variables: tuple[tuple[str, str], ...], scratch: Path, folder: Path
) -> Command:
    address = ipc_address(scratch / "scheduler")
    return Command("worker", (address, "--scratch", str(folder), *options), variables)


def _variables(env: Mapping[str, str] | None, processes: bool) -> tuple[tuple[str, str], ...]:
    """Return the environment variables of workers, checked."""
    if not env:
        return ()
    if not processes:
        raise InvalidArgument(
            "env is for worker processes, and with processes=False there are none; set os.environ"
        )
    for name, value in env.items():
        is_text = isinstance(name, str) and isinstance(value, str | int | float)
        if not is_text or not name or "=" in name or "\0" in f"{name}{value}":
            raise InvalidArgument(
                f"env has {name!r}: {value!r:.80}; expected names and text of environment "
                "variables, such as {'OMP_NUM_THREADS': '1'}"
            )
    return tuple((name, str(value)) for name, value in env.items())
