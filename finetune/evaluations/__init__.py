"""What a model is worth on rows that it never saw, for each task."""
