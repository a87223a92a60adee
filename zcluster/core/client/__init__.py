"""The client's core: its futures, its submissions and its session with the scheduler."""
