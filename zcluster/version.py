"""The version of zcluster, in the one place that says it.

The build reads the assignment below from the text of this file, so it must stay
a plain string.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
