"""Graphs as arrays: layers, their lowering, dict graphs at the door, order and drawing."""
