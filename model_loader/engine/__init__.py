"""Prompt ids to token ids on one background thread; knows no text, no roles and no tools."""
