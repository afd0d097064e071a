"""What a trained run can be asked for: the modes of `python -m fexgan_lit.generate`, one file each."""
