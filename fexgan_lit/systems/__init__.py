"""The published systems, one folder each, with their base classes, layers and losses."""
