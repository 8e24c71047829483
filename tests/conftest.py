"""Settings of all tests."""

import os
import signal

from hypothesis import settings

# A shell starts background commands with Ctrl-C ignored, and their children would ignore it, too:
# tests that interrupt a child would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The time of an example depends on the machine more than on the code.
settings.register_profile("prelabel", deadline=None)
settings.load_profile("prelabel")

# The developer's proxies and certificates do not concern servers on loopback.
for _name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)
for _name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(_name, None)
