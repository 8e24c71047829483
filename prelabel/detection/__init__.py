"""Detection on one picture: decoding, tiling, batching, scoring and the smoke test at start."""
