"""Masks of objects: logits, runs of pixels, and the forms in which Label Studio stores them."""
