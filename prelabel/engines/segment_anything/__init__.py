"""The engine of segmenters: SAM and SAM 2 checkpoints of transformers."""
