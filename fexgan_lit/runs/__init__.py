"""Runs: their configuration, their folder, their weights, and sweeps of them."""
