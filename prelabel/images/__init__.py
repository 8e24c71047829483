"""Pictures: download, checks of encoded bytes against limits, and decoding."""
