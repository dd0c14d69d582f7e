"""fastai (https://github.com/fastai/fastai) on folders of images, with the network that we start from.

Run by a Python that has fastai and timm, see `tests.benchmarks.finetuning`. Its documented recipe for transfer learning: its
own augmentation, batches of 32, the head alone for an epoch, then all of it at `fine_tune`'s rates.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

EPOCHS = 5
ARCHITECTURE, PIXELS = "tf_efficientnet_lite0", 224


def main() -> None:
    """Arguments: the folder with train and test, and the network's weights; prints accuracy and seconds."""
    data, weights = map(Path, sys.argv[1:3])
    started = time.monotonic()
    import torch
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        ImageDataLoaders,
        Learner,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        create_timm_model,
        default_split,
        get_image_files,
        set_seed,
    )
    from safetensors.torch import load_file

    set_seed(0, reproducible=True)
    middle = [0.5, 0.5, 0.5]
    loaders = ImageDataLoaders.from_folder(
        data / "train",
        train=".",
        valid_pct=0.15,
        seed=0,
        bs=32,
        num_workers=0,
        item_tfms=Resize(256),
        batch_tfms=[*aug_transforms(size=PIXELS), Normalize.from_stats(middle, middle)],
    )
    model, _ = create_timm_model(ARCHITECTURE, loaders.c, pretrained=False)
    model[0].model.load_state_dict(load_file(weights))
    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), splitter=default_split, metrics=accuracy)
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
        tests = loaders.test_dl(get_image_files(data / "test"), with_labels=True)
        scores, truths = learner.get_preds(dl=tests)
    said = scores.argmax(dim=1)
    print(
        json.dumps(
            {"score": float((said == torch.as_tensor(truths)).float().mean()), "seconds": time.monotonic() - started}
        )
    )


if __name__ == "__main__":
    main()
