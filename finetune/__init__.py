"""From a labelled dataset to a published model version."""
