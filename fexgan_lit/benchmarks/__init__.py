"""What `python -m fexgan_lit.benchmark` measures, and how."""
