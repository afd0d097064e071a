"""Measuring trained systems on the same frames: methods, scores, intervals, tables and pictures."""
