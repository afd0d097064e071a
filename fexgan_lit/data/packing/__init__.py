"""Frames decoded once into one file that is mapped into memory."""
