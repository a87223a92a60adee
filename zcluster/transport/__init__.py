"""ZeroMQ: one loop, its sockets, keys and addresses."""
