"""The front ends of a terminal."""
