"""The engine on NVIDIA GPUs: keys and values in pages, steps that are recorded once and replayed."""
