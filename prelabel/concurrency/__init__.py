"""Work in one event loop: single-flight caches and fairness."""
