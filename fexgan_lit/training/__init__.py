"""Training: what makes an iteration fast, from outside the networks."""
