"""Tables and pictures of what was run: sweeps, single runs, and records for others to read."""
