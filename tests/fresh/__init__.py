"""Tests of a new clone, with the installation of everything."""
