"""Label Studio's formats: requests, labeling configs, predictions, addresses, tokens, REST API.

The keys of Label Studio's JSON and XML occur in this package only.
"""
