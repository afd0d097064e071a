"""Reports of sweeps: read the runs, rank the settings, write tables and figures."""
