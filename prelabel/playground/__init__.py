"""The playground: a page that tries prompts and thresholds on a picture, without Label Studio."""
