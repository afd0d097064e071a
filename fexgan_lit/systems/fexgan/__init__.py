"""FExGAN (arXiv 2201.09061) and FExGAN-Meta (arXiv 2203.05975)."""
