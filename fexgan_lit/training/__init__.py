"""Training: run a training from its configuration to its report, and accelerate its iterations."""
