"""Interaction logs to a dataset folder, and the batches read from it."""
