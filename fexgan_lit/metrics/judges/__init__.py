"""Judges, the networks that evaluate generated frames: training, cache, and the user's own networks."""
