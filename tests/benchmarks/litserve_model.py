"""A model on LitServe with torch, as its documentation teaches to write one; see `tests.benchmarks.peers`.

python -m tests.benchmarks.litserve_model --backbone timm:tf_efficientnet_lite0 --port 8000 --batch 8 --workers 2
"""

import argparse
import base64
import io
import os
from typing import Any

import litserve
import torch
from PIL import Image

from models.backbone_store import build_backbone
from models.batch import ImageBatch, TextBatch
from models.features import FeatureKind
from models.image_preprocessor import evaluation_transform
from models.sources import fetch_checkpoint
from tests.benchmarks.workload import CLASSES


class Model(litserve.LitAPI):
    """A backbone and a linear layer in torch, eager, in fp32.

    Args:
        backbone: by name.
        threads: of torch in each worker.
    """

    def __init__(self, backbone: str, threads: int, **options: Any) -> None:
        super().__init__(**options)
        self.backbone_name, self.threads = backbone, threads

    def setup(self, device: str) -> None:
        torch.set_num_threads(self.threads)
        checkpoint = fetch_checkpoint(self.backbone_name)
        self.model = build_backbone(checkpoint.config, checkpoint.state)
        self.head = torch.nn.Linear(checkpoint.config.feature_dim, CLASSES)
        self.prepare_with(checkpoint)

    def prepare_with(self, checkpoint: Any) -> None:
        """Whatever turns inputs into tensors."""

    def scores(self, batch: Any) -> list[list[float]]:
        with torch.inference_mode():
            features_BD = self.model(batch, FeatureKind.POOLED).values
            return torch.softmax(self.head(features_BD), dim=1).tolist()

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        score = max(output)
        return {"predictions": [{"label": f"label-{output.index(score)}", "score": score}]}


class Images(Model):
    def prepare_with(self, checkpoint: Any) -> None:
        self.transform = evaluation_transform(checkpoint.preprocessor)

    def decode_request(self, request: dict) -> Any:
        file = io.BytesIO(base64.b64decode(request["instances"][0]["b64"]))
        return self.transform(Image.open(file).convert("RGB"))

    def batch(self, inputs: list[Any]) -> Any:
        return torch.stack(inputs)

    def predict(self, x: Any) -> Any:
        single = x.ndim == 3
        scores = self.scores(ImageBatch(pixels_BCHW=x[None] if single else x))
        return scores[0] if single else scores


class Texts(Model):
    def prepare_with(self, checkpoint: Any) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_buffer(checkpoint.tokenizer_json)
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(checkpoint.preprocessor.max_tokens)

    def decode_request(self, request: dict) -> str:
        return request["instances"][0]

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, x: Any) -> Any:
        encodings = self.tokenizer.encode_batch([x] if isinstance(x, str) else x)
        batch = TextBatch(
            ids_BT=torch.tensor([each.ids for each in encodings]),
            segments_BT=torch.tensor([each.type_ids for each in encodings]),
            mask_BT=torch.tensor([each.attention_mask for each in encodings]),
        )
        scores = self.scores(batch)
        return scores[0] if isinstance(x, str) else scores


def main() -> None:
    """Serves until a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.litserve_model")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1, help="the largest batch")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    model = Images if options.backbone.startswith("timm:") else Texts
    threads = max(1, len(os.sched_getaffinity(0)) // options.workers)
    window = 0.0 if options.batch == 1 else 0.005
    server = litserve.LitServer(
        model(options.backbone, threads, max_batch_size=options.batch, batch_timeout=window),
        accelerator="cpu",
        workers_per_device=options.workers,
        timeout=120,
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False)


if __name__ == "__main__":
    main()
