"""The loggers of a run: metrics.csv, TensorBoard, Weights & Biases."""
