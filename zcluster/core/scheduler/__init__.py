"""The scheduler's core: which task runs where, and what happens when something is lost."""
