"""A checkpoint's name to its files and facts; imports no torch and no transformers."""
