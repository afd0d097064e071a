"""Export of a trained run's networks to files for other programs, each verified against the original network."""
