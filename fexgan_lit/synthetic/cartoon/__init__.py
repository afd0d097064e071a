"""Cartoon characters: flat layers with soft shading, animated by the rig."""
