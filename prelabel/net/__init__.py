"""Network access: origins, public addresses, proxies, certificates and the hardened transport."""
