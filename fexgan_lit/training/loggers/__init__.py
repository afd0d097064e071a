"""Where the numbers, pictures and tables of a run go: metrics.csv, TensorBoard, Weights & Biases."""
