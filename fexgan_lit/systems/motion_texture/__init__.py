"""MotionGAN and TextureGAN (Otberdout et al. 2022): a motion of landmarks from a label, and frames from landmarks."""
