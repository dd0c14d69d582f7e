"""What an export for Triton's python backend carries; it runs in Triton, never here."""

from __future__ import annotations

from pathlib import Path

MODEL_FILE = Path(__file__).with_name("model.py")  # copied as it is
