"""Predicted boxes against the boxes of people: measures, their uncertainty, advice. Pure."""
