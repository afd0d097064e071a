"""Load the authors' Keras weight files (`.h5`) into the PyTorch networks, without TensorFlow."""
