"""Metrics, the metric suite and the judges."""
