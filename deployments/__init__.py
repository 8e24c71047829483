"""Ray Serve deployments: thin shells around the library, bound together in serve_app.py."""
