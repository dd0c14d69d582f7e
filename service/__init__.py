"""From a published model version to answers over HTTP."""
