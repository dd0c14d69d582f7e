"""Image files and sentences to rows: how long it takes, and whether a classifier says the same as with timm's own transform.

python -m tests.benchmarks.preprocessing          # on crops of scikit-learn's two photographs
python -m tests.benchmarks.preprocessing DATA     # on every JPEG below DATA/clothing10, grocery12 and sign_digits

The classifier is EfficientNet-Lite0's own, of ImageNet's classes. The pictures of the data are small; some are enlarged
to 2,100 pixels and more, with grain, for JPEGs are then decoded at half their size. These are blurred and mostly show none of its
classes, so that its best ones nearly tie, and any noise decides between them. So ours is compared with noise: one level of
255, up or down, in as many pixels as differ between ours and timm's. Times are CPU milliseconds of one core
for one item, the median of rounds in which both ways take turns.
"""

from __future__ import annotations

import hashlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from models.compute_environment import restart_with
from service.cli import WORKER_ENVIRONMENT
from tests.benchmarks.report import write
from tests.benchmarks.workload import photographs, sentences
from tests.faults.figure import Figure

if TYPE_CHECKING:
    import torch

    from models.preprocessor import ImagePreprocessorConfig

SETS = ("clothing10", "grocery12", "sign_digits")
BACKBONE = "timm:tf_efficientnet_lite0"
ROUNDS = 15
BATCH = 32
LARGE = 480  # pictures that are enlarged, at most

Prepare = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a classifier makes of our rows beside timm's.

    Attributes:
        top1: share of pictures with the same best class.
        difference: mean absolute difference of a probability, over all classes.
        difference_of_best: the same, of timm's best class alone.
        noise_top1: share of pictures whose best class stays if as many pixels as differ are moved by one level at random.
    """

    top1: float
    difference: float
    difference_of_best: float
    noise_top1: float


class Classifier:
    """A timm checkpoint with its own classifier."""

    def __init__(self, name: str) -> None:
        from models.backbone_store import BackboneStore
        from models.sources import fetch_checkpoint

        checkpoint = fetch_checkpoint(name)
        assert checkpoint.classifier is not None
        self.preprocessor: ImagePreprocessorConfig = checkpoint.preprocessor
        self._classifier = checkpoint.classifier
        with tempfile.TemporaryDirectory() as scratch:
            self._backbone = BackboneStore(Path(scratch)).add(checkpoint).load()

    def probabilities(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of rows ``(3, H, W)``: ``(N, C)``."""
        import torch

        from models.batch import ImageBatch
        from models.features import FeatureKind

        batches = [torch.stack(list(rows[start : start + BATCH])) for start in range(0, len(rows), BATCH)]
        with torch.inference_mode():
            features_ND = torch.cat(
                [self._backbone(ImageBatch(pixels_BCHW=batch), FeatureKind.POOLED).values for batch in batches]
            )
            return (features_ND @ self._classifier.weight_CD.T + self._classifier.bias_C).softmax(dim=1)

    def agreement(self, files: Sequence[bytes]) -> Agreement:
        """Our rows beside those of timm's transform on pictures that Pillow decodes in full."""
        from models.image import EncodedImage
        from models.image_preprocessor import ImagePreprocessor, timm_transform

        ours, theirs = ImagePreprocessor(self.preprocessor), timm_transform(self.preprocessor)
        found_rows = [ours.prepare(data).pixels_CHW for data in files]
        wanted_rows = [theirs(EncodedImage(data)) for data in files]
        found_NC, wanted_NC = self.probabilities(found_rows), self.probabilities(wanted_rows)
        best_N1 = wanted_NC.argmax(dim=1, keepdim=True)
        differ = statistics.mean(
            (found != wanted).double().mean().item() for found, wanted in zip(found_rows, wanted_rows, strict=True)
        )
        noisy_NC = self.probabilities([noisy(row, differ, seed) for seed, row in enumerate(wanted_rows)])
        differences_NC = (found_NC - wanted_NC).abs()
        return Agreement(
            top1=(found_NC.argmax(dim=1, keepdim=True) == best_N1).double().mean().item(),
            difference=differences_NC.mean().item(),
            difference_of_best=differences_NC.gather(1, best_N1).mean().item(),
            noise_top1=(noisy_NC.argmax(dim=1, keepdim=True) == best_N1).double().mean().item(),
        )


def noisy(pixels_CHW: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """The picture with a share of its values moved by one, up or down."""
    import torch

    random = torch.Generator().manual_seed(seed)
    chosen_CHW = torch.rand(pixels_CHW.shape, generator=random) < share
    moves_CHW = torch.randint(0, 2, pixels_CHW.shape, generator=random) * 2 - 1
    return (pixels_CHW + chosen_CHW * moves_CHW).clamp(0, 255).to(torch.uint8)


def read_sets(data: Path) -> Mapping[str, Sequence[bytes]]:
    """The JPEG files of each set."""
    files = {name: [path.read_bytes() for path in sorted((data / name).rglob("*.jpg"))] for name in SETS}
    if not all(files.values()):
        raise SystemExit(f"{data} must hold the folders {', '.join(SETS)} with JPEG files")
    return files


def enlarged(data: bytes, width: int, height: int) -> bytes:
    """The same picture as a larger JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def grainy(data: bytes, side: int = 2100) -> bytes:
    """The same picture with a shorter side of so many pixels, and grain as of a sensor: detail that enlarging has not."""
    import numpy as np
    from PIL import Image

    picture = Image.open(io.BytesIO(data))
    times = side / min(picture.size)
    pixels_HWC = np.asarray(picture.resize((round(times * picture.width), round(times * picture.height))), np.float32)
    grain_HW1 = np.random.default_rng(0).normal(0, 8, (*pixels_HWC.shape[:2], 1))
    buffer = io.BytesIO()
    Image.fromarray((pixels_HWC + grain_HW1).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def cpu_milliseconds(ways: Sequence[Prepare], items: Sequence[Any], rounds: int = ROUNDS) -> list[float]:
    """For each way the median over the rounds of its CPU time for one item; in each round they take turns."""
    found: list[list[float]] = [[] for _ in ways]
    for turn in range(rounds + 1):
        for way, times in zip(ways, found, strict=True):
            started = time.process_time()
            for item in items:
                way(item)
            if turn:  # the first one warms up
                times.append((time.process_time() - started) / len(items) * 1000)
    return [statistics.median(times) for times in found]


def two_threads_over_hashing(prepare: Prepare, items: Sequence[Any], rounds: int = ROUNDS) -> float:
    """What a second thread adds, beside what it adds to hashing, which never waits for the interpreter's lock: 1 is all.

    The machine may have less than a second core to spare; so both take turns.
    """
    megabyte = bytes(1 << 20)
    works: list[tuple[Prepare, Sequence[Any]]] = [(hashlib.sha256, [megabyte] * 32), (prepare, items)]
    ratios = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            hashing, preparing = (_two_threads_over_one(pool, work, things) for work, things in works)
            ratios.append(preparing / hashing)
    return statistics.median(ratios)


def _two_threads_over_one(pool: ThreadPoolExecutor, work: Prepare, items: Sequence[Any]) -> float:
    started = time.perf_counter()
    for item in items:
        work(item)
    between = time.perf_counter()
    list(pool.map(lambda half: [work(item) for item in half], (items[::2], items[1::2])))
    return (between - started) / (time.perf_counter() - between)


def measure_images(sets: Mapping[str, Sequence[bytes]], table: Table) -> list[Figure]:
    """Times of our transform and timm's, and their agreement."""
    from models.image import EncodedImage
    from models.image_preprocessor import ImagePreprocessor, timm_transform

    classifier = Classifier(BACKBONE)
    ours, theirs = ImagePreprocessor(classifier.preprocessor).prepare, timm_transform(classifier.preprocessor)
    photos = photographs()
    kinds = {
        "jpeg_640x480": photos[:16],
        "jpeg_4000x3000": [enlarged(photos[0], 4000, 3000)],
        **{f"jpegs_of_{name}": files[:32] for name, files in sets.items()},
    }
    figures = []
    for kind, files in kinds.items():
        quick, timm = cpu_milliseconds([ours, lambda data: theirs(EncodedImage(data))], files)
        table.add_row(kind, f"{quick:.2f}", f"{timm:.2f}", "")
        bar = 2.5 if kind == "jpeg_640x480" else None
        figures += [
            Figure(goal="", name=f"prepare_{kind}", value=quick, unit="ms", relation="<=", bar=bar),
            Figure(goal="", name=f"prepare_{kind}_timm_over_ours", value=timm / quick, unit="ratio"),
        ]
    both = two_threads_over_hashing(ours, photos)
    figures.append(Figure(goal="", name="prepare_images_two_threads_over_hashing", value=both, unit="ratio"))
    everything = [data for files in sets.values() for data in files]
    large = [grainy(data) for data in everything[:: -(-len(everything) // LARGE)]]
    for name, files in {**sets, "all": everything, "large": large}.items():
        found = classifier.agreement(files)
        table.add_row(
            f"{name}: {len(files)} pictures",
            "",
            "",
            f"{found.top1:.2%} same answer ({found.noise_top1:.2%} with noise), {found.difference:.1e} mean, "
            f"{found.difference_of_best:.1e} of the best",
        )
        tail, bars = f"agreement_{name}", name == "all"
        figures += [
            Figure(goal="", name=f"{tail}_top1", value=found.top1, relation=">=", bar=0.99 if bars else None),
            Figure(
                goal="",
                name=f"{tail}_top1_over_noise",
                value=found.top1 / found.noise_top1,
                unit="ratio",
                relation=">=",
                bar=0.99 if name == "large" else None,
            ),
            *(
                Figure(goal="", name=f"{tail}_{kind}", value=value, relation="<=", bar=0.01 if bars else None)
                for kind, value in (("difference", found.difference), ("difference_of_best", found.difference_of_best))
            ),
        ]
    return figures


def measure_texts(table: Table) -> list[Figure]:
    """Time of a sentence, and of putting 32 of them into a batch."""
    from models.sources import fetch_checkpoint
    from models.text_preprocessor import TextPreprocessor

    checkpoint = fetch_checkpoint("hf:all-MiniLM-L6-v2")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
        preprocessor = TextPreprocessor(checkpoint.preprocessor, Path(scratch) / "tokenizer.json")
        texts = [text.decode() for text in sentences(Path(scratch))]
    rows = [preprocessor.prepare(text) for text in texts[:BATCH]]
    (one,) = cpu_milliseconds([preprocessor.prepare], texts)
    (batch,) = cpu_milliseconds([preprocessor.collate], [rows] * 100)
    table.add_row("sentence", f"{one:.4f}", "", "")
    table.add_row(f"{BATCH} sentences into a batch", f"{batch:.4f}", "", "")
    both = two_threads_over_hashing(preprocessor.prepare, texts * 4)
    return [
        Figure(goal="", name="prepare_sentence", value=one, unit="ms", relation="<=", bar=0.15),
        Figure(goal="", name=f"collate_{BATCH}_sentences", value=batch, unit="ms"),
        Figure(goal="", name="prepare_sentences_two_threads_over_hashing", value=both, unit="ratio"),
    ]


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    restart_with(WORKER_ENVIRONMENT)
    table = Table("item", "ms", "ms with timm", "the classifier's answers", box=box.SIMPLE_HEAD)
    sets = read_sets(Path(sys.argv[1])) if sys.argv[1:] else {"photographs": photographs()}
    figures = [*measure_images(sets, table), *measure_texts(table)]
    Console().print(table)
    for figure in figures:
        print(figure)
    write(figures)


if __name__ == "__main__":
    main()
