"""From a picture to detections: decoding, tiling, batching, scoring."""
