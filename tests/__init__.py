"""The tests, in the same tree as the source."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may wait for a model hub
os.environ.setdefault("GRAFTWORK_ENGINE", "torch")  # to choose takes seconds; the tests of the choice say otherwise
