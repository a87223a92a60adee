"""``python -m zcluster.testing``: what ``zcluster simulate`` does."""

from __future__ import annotations

import sys

from zcluster.testing.command import simulate

if __name__ == "__main__":
    sys.exit(simulate.main(prog_name="python -m zcluster.testing", standalone_mode=False))
