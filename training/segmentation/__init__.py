"""Training of the embedded demo segmenter, on the scenes of the demo model."""
