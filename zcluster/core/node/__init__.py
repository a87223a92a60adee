"""The node's core, run by a nanny: inputs, order, slots and results of one node."""
