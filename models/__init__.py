"""What training and serving share: backbones, heads, preprocessing, engines, manifests, the model repository.

Knows nothing of HTTP, LitServe, datasets or network clients.
"""
