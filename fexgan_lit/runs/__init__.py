"""Training runs: configuration, run folder, weights and sweeps."""
