"""Segmentation: the masks of objects in a picture."""
