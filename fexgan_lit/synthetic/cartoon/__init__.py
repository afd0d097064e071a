"""Drawn characters: flat layers with soft shading, moved by the rig."""
