"""The timings of a cluster, in one record."""

from __future__ import annotations

from dataclasses import dataclass, fields

from zcluster.config.defaults import TABLE
from zcluster.config.values import get

__all__ = ["Settings"]


@dataclass(frozen=True, init=False)
class Settings:
    """Timings in seconds and limits in bytes; what is not given comes from the configuration.

    Tests make one with shorter times: ``Settings(stop_grace=0.1)``. The attributes of the class
    itself are the defaults.

    Attributes
    ----------
    start_timeout : float
        How long a start may take before it is an error.
    stop_grace : float
        How long a process told to stop may take before it is killed.
    restart_first, restart_most : float
        Wait before a nanny that died is started again: the first, and the longest
        after doubling.
    restart_forget : float
        A nanny that lived this long starts again with the first wait.
    death_timeout : float
        How long a nanny waits for its scheduler, at start and after losing it.
    store_share : float
        Share of a node's memory that results may take at most.
    """

    start_timeout: float = TABLE["cluster.start-timeout"].default
    stop_grace: float = TABLE["cluster.stop-grace"].default
    restart_first: float = TABLE["cluster.restart-first"].default
    restart_most: float = TABLE["cluster.restart-most"].default
    restart_forget: float = TABLE["cluster.restart-forget"].default
    death_timeout: float = TABLE["worker.death-timeout"].default
    store_share: float = TABLE["worker.store-share"].default

    def __init__(
        self,
        *,
        start_timeout: float | None = None,
        stop_grace: float | None = None,
        restart_first: float | None = None,
        restart_most: float | None = None,
        restart_forget: float | None = None,
        death_timeout: float | None = None,
        store_share: float | None = None,
    ) -> None:
        given = locals()
        for field in fields(self):
            value = given[field.name]
            if value is None:
                section = "worker" if field.name in _OF_WORKERS else "cluster"
                value = get(f"{section}.{field.name}")
            object.__setattr__(self, field.name, value)


#: Their keys are those of workers started by hand as well.
_OF_WORKERS = ("death_timeout", "store_share")
