"""Pictures that are in no project: read from folders, buckets and files, predicted, and written."""
