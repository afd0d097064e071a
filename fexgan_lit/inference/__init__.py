"""Use of a trained run: image generation, the modes of `python -m fexgan_lit.generate`, the web app, export."""
