"""The published systems: their base classes, their layers and losses, and a folder for each."""
