"""Kernels in C and Triton, and the modules that call them."""
