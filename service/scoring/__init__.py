"""Scores a folder or a table: every row is asked about, and its answer written beside it."""
