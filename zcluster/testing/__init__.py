"""The pretend cluster: real cores, and fakes of everything around them.

`simulate` puts the cores through random faults; `History` is one plan, lived through; `World` is
the cluster itself, for histories written by hand. The page "Testing with a pretend cluster" of the
documentation has examples.
"""

from __future__ import annotations

from zcluster.testing.coverage import Coverage
from zcluster.testing.histories import Failure, History, Outcome, live
from zcluster.testing.model import Model, Spec
from zcluster.testing.plans import FAULTS, WORK, Action, Cut, Plan, draw_plan
from zcluster.testing.report import Report
from zcluster.testing.running import simulate
from zcluster.testing.shrinking import shrink
from zcluster.testing.workloads import Mix, add_layer, draw_graph
from zcluster.testing.world import World

__all__ = [
    "FAULTS",
    "WORK",
    "Action",
    "Coverage",
    "Cut",
    "Failure",
    "History",
    "Mix",
    "Model",
    "Outcome",
    "Plan",
    "Report",
    "Spec",
    "World",
    "add_layer",
    "draw_graph",
    "draw_plan",
    "live",
    "shrink",
    "simulate",
]
