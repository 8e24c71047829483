"""`prelabel demo`: a Label Studio with demo projects that are connected to the service."""
