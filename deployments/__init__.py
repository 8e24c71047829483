"""Ray Serve classes: thin shells around the library."""
