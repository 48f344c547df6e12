"""A checkpoint to a loaded model: what the machine offers, where the weights go, and the load itself."""
