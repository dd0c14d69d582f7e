"""What is measured, and never judged by a test."""

import os

os.environ.pop("GRAFTWORK_ENGINE", None)  # the engine that a user gets, not the one that tests start quickest with
