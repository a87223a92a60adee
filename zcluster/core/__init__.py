"""Three pure state machines: scheduler, node and client. Events go in, effects come out.

No socket, clock, thread, chance or pickle below here; the cores meet in messages only.
"""
