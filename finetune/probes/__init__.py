"""Heads on frozen features: one way to fit for each task, each with its settings chosen by cross-validation."""
