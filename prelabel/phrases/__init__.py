"""Phrases: normal forms, plain words, captions, and matching to labels."""
