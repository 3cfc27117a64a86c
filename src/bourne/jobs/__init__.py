"""Batch jobs at work: a chunk is an epoch, so data and position move together or not at all."""
