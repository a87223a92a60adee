"""A node's store: results in shared memory, found by offset and length."""
