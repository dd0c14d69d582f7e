"""NVIDIA Triton as a place where backbones run: what is exported for it, and what is asked of it."""
