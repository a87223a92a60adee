"""What goes over the wire: messages, frames, sessions, and objects turned into bytes.

Nothing here knows a socket, a clock or a thread.
"""
