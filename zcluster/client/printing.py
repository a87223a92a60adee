"""The switch of a client for what tasks print; see `zcluster.client.output`."""

from __future__ import annotations

from zcluster.client.base import ClientBase
from zcluster.client.output import TaskOutput
from zcluster.protocol.messages import Output

__all__ = ["Printing"]

#: Seconds that the end of a client waits for its last lines to be printed.
_LAST_LINES = 1.0


class Printing(ClientBase):
    """What tasks print: shown here unless `forward_output` is switched off."""

    @property
    def forward_output(self) -> bool:
        """Whether what tasks print, log and warn of is shown in this process's output."""
        return self._output.is_shown

    @forward_output.setter
    def forward_output(self, is_shown: bool) -> None:
        self._output.is_shown = bool(is_shown)

    def _hear_output(self) -> None:
        """Begin to hear what tasks print. Nothing of it holds this client."""
        self._output = TaskOutput()
        self._engine.listeners[Output] = self._output.hear
        self._engine.on_waited = self._output.printer.catch_up

    def _end_output(self) -> None:
        """Print what is left."""
        if hasattr(self, "_output"):
            self._output.printer.close(_LAST_LINES)
