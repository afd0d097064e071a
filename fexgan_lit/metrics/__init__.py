"""Judges and the metric suite."""
