"""``python -m zcluster`` is the command ``zcluster``."""

from __future__ import annotations

import sys

from zcluster.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
