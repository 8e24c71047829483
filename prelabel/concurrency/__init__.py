"""Coordination of coroutines in one event loop: single-flight caches and fair semaphores."""
