"""Evaluate trained systems on the same frames: methods, scores, intervals, tables and figures."""
