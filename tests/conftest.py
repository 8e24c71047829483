"""Of all tests."""

import os

from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("prelabel", deadline=None)
settings.load_profile("prelabel")

# What the shell says of its network, which servers on loopback have no part in.
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)
for _name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(_name, None)
