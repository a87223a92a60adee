"""Launchers: each turns "n workers" into started command lines, somewhere.

Installed as ``zcluster.launchers`` and found by entry point
(``[project.entry-points."zcluster.launchers"]`` in pyproject.toml), never imported by
the rest of the code, so that a site can add one of its own. Two rules keep tools happy:
modules here import each other relatively, and hold no doctests.
"""
