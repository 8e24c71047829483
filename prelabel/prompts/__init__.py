"""Prompts: parsed, resolved against a labeling config, planned, and remembered."""
