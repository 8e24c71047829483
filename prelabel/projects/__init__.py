"""Whole projects of Label Studio: predictions for every task."""
