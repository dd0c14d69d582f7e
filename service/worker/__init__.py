"""An engine worker: rows are prepared, put into batches, and computed."""
