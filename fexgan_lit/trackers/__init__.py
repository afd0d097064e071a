"""Where numbers, pictures and tables go: metrics.csv always, TensorBoard or Weights & Biases when asked for."""
