"""Plugins that set up workers, now and whenever one starts."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from zcluster.client.running import Running
from zcluster.errors import InvalidArgument
from zcluster.protocol.objects import plan

__all__ = ["Plugging", "WorkerPlugin"]

#: The folder of plugins among the uploaded files; see `zcluster.servers.plugins`.
_FOLDER = ".plugins"
#: Characters of a name; it becomes the name of a file.
_LONGEST_NAME = 60


class WorkerPlugin:
    """What sets up workers. Derive from it, or have the same methods.

    Attributes
    ----------
    name : str
        Under which it is registered: another one of the same name takes its place.

    Examples
    --------
    >>> class Model(WorkerPlugin):
    ...     name = "model"
    ...
    ...     def setup(self, worker):
    ...         worker.model = load_model()
    >>> client.register_plugin(Model())                          # doctest: +SKIP
    """

    name: str = ""

    def setup(self, worker: Any) -> None:
        """Set up a worker, before it runs tasks; ``worker`` is what `get_worker` returns."""

    def teardown(self, worker: Any) -> None:
        """Undo it, when the plugin is taken away."""


class Plugging(Running):
    """`Client.register_plugin` and its undoing."""

    def register_plugin(self, plugin: Any, name: str | None = None) -> dict[str, str]:
        """Have a plugin set up all workers, also those that start later, before they run tasks.

        Parameters
        ----------
        plugin : WorkerPlugin
            Or any object with a ``setup(worker)``.
        name : str, optional
            Instead of the plugin's own.

        Returns
        -------
        dict
            ``"OK"`` by worker.

        Raises
        ------
        Exception
            What ``setup`` raised in a worker.
        """
        if not callable(getattr(plugin, "setup", None)) or isinstance(plugin, type):
            raise InvalidArgument(
                f"found {plugin!r:.80} as a plugin, expected an object with a method setup(worker)"
            )
        data = plan(plugin, "plugin").tobytes()
        self._engine.ship((data,))
        name = name or getattr(plugin, "name", None)
        if not name:
            digest = blake2b(data, digest_size=8).hexdigest()
            name = f"{type(plugin).__name__[: _LONGEST_NAME - 20]}-{digest}"
        return self._set_plugin(name, data)

    #: The older name for it.
    register_worker_plugin = register_plugin

    def unregister_worker_plugin(self, name: str) -> dict[str, str]:
        """Take a plugin away: its ``teardown`` is called in each worker."""
        return self._set_plugin(name, b"")

    def _set_plugin(self, name: str, data: bytes) -> dict[str, str]:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise InvalidArgument(
                f"the name of a plugin is {name!r:.80}, expected text of at most {_LONGEST_NAME} "
                "characters"
            )
        self._upload({f"{_FOLDER}/{quote(name, safe='')}": data}, f"plugin {name}")
        found = self.run(_outcome, name)
        return dict.fromkeys(found or {}, "OK")


def _outcome(name: str, dask_worker: Any) -> None:
    """Wait for a plugin in a worker."""
    dask_worker.plugins.outcome(name)
