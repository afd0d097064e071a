"""GANimation (Pumarola et al. 2018, arXiv 1807.09251)."""
