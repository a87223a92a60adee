"""The pretend cluster: real cores, and fakes of everything around them.

`simulate` puts the cores through random faults; `History` is one plan, lived through; `World` is
the cluster itself, for histories written by hand. ``docs/testing.md`` has examples.
"""
