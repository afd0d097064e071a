"""The authors' Keras weight files (`.h5`) as our networks, without TensorFlow."""
