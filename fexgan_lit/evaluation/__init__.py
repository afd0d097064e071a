"""Measuring trained systems on the same frames: contenders, scores, intervals, tables and pictures."""
