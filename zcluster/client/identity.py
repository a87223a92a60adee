"""What a client says of itself and of where it is connected."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from zcluster.client.base import ClientBase
from zcluster.client.future import Future
from zcluster.client.waiting import futures_of
from zcluster.transport.keys import keys_of
from zcluster.transport.scheduler_file import SchedulerFile, write_scheduler_file

__all__ = ["Identity", "SchedulerView"]


class SchedulerView(NamedTuple):
    """What a client knows of its scheduler without asking: where it is."""

    address: str


class Identity(ClientBase):
    """`Client.id`, `Client.scheduler`, `Client.write_scheduler_file` and their like."""

    cluster: Any

    @property
    def id(self) -> str:
        """Text that no other client has: its name, and what chance added."""
        found: str | None = vars(self).get("_id")
        if found is None:
            found = self._id = f"{self._engine.name}-{uuid.uuid4().hex}"
        return found

    @property
    def scheduler(self) -> SchedulerView:
        """The scheduler: its ``address``. `scheduler_info` asks it for more."""
        return SchedulerView(self._engine.address)

    @property
    def dashboard_link(self) -> str | None:
        """Where the cluster can be looked at in a browser: None while it has no dashboard."""
        link: str | None = getattr(self.cluster, "dashboard_link", None)
        return link

    def write_scheduler_file(self, scheduler_file: str | os.PathLike[str]) -> None:
        """Write how to reach the scheduler, for ``Client(scheduler_file=...)`` elsewhere.

        Raises
        ------
        StartError
            If the folder does not let us.
        """
        info = self._engine.ask("info")
        keys = keys_of(self._engine.address)
        record = SchedulerFile(
            address=self._engine.address,
            id=info.get("id") or self.id,
            # Whoever is connected without keys has accepted this address.
            insecure=keys is None and self._engine.address.startswith("tcp://"),
            keys={} if keys is None else keys.to_texts(),
            started=info.get("started") or time.time(),
        )
        write_scheduler_file(Path(scheduler_file).absolute(), record)

    @staticmethod
    def futures_of(futures: Any) -> list[Future]:
        """Return the futures in containers and collections; as the function of this name."""
        return futures_of(futures)

    @staticmethod
    def normalize_collection(collection: Any) -> Any:
        """Return a collection as it is: what was persisted holds its futures itself."""
        return collection
