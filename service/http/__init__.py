"""Bytes on a client's connection become requests, within limits and times, and answers become bytes."""
