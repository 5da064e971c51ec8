"""Pipelines, nodes and the Python engine."""
