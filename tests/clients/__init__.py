"""Clients that others wrote, tried against the API: `make clients` gives them an environment of their own."""
