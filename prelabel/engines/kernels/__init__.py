"""Kernels in C and Triton, and the torch modules that call them."""
