"""Phrases: spellings and normal forms of names, captions for the model, and matching to labels."""
