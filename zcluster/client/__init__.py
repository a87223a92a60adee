"""The client that users hold: one loop thread, futures, and the local cluster."""
