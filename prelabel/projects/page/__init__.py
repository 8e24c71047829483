"""The page of an evaluation: one HTML file without references to other files."""
