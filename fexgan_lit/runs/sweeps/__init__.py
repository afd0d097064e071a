"""Sweeps: grids and searches that run many trainings from one command and can be resumed."""
