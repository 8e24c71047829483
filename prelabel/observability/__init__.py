"""Journal, stage timings and traces."""
