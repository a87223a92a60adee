"""The one door from lazy collections to a runner: compute, persist, visualize."""
