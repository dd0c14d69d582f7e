"""Versions in the formats of others: ONNX, a model repository of Triton, a folder that timm or transformers load."""
