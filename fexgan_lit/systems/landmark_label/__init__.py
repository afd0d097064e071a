"""Landmark-and-label guided expression synthesis (Li, Qi, Sun 2020)."""
