"""Helpers that know nothing of faces: errors, files, options, Hydra, the terminal, the hardware."""
