"""MIEN, a system of this project: move pixels by the change of action units, then paint."""
