"""The suites of `python -m fexgan_lit.benchmark`."""
