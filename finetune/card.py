"""The README.md of a published version: Hugging Face model card metadata, then what a reader wants to know.

Metadata: the `Hub's model card specification`_. Labels, file names and findings come from the user's data and may hold
anything, so the metadata goes through a YAML emitter and everything in the body through `escape`.

.. _Hub's model card specification: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune.card_results import NOUN, embedding_precisions, precisions, results
from finetune.evaluations.metrics import HEADLINES, METRICS
from finetune.label_history import sentence
from finetune.markdown import escape, table
from models.backbone import Modality
from models.manifest import LabelChanges, Training
from models.task import Task

if TYPE_CHECKING:
    from finetune.comparison import Comparison
    from finetune.curves import LearningCurves
    from finetune.mistakes import Mistakes

MOST_CLASSES_LISTED = 30
FEW_ROWS = 10

_PIPELINE = {Modality.IMAGE: "image-classification", Modality.TEXT: "text-classification"}
_CALL = {
    "image": """\
curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' \\
  http://localhost:8000/v1/models/{name}/versions/{version}:predict
graftwork predict {name}:{version} photo.jpg""",
    "text": """\
curl -d '{{"instances": ["a text"]}}' -H 'Content-Type: application/json' \\
  http://localhost:8000/v1/models/{name}/versions/{version}:predict
graftwork predict {name}:{version} 'a text'""",
    "pair of texts": """\
curl -d '{{"instances": [{{"text": "a text", "text_pair": "another"}}]}}' -H 'Content-Type: application/json' \\
  http://localhost:8000/v1/models/{name}/versions/{version}:predict
graftwork predict {name}:{version} --pairs 'a text' 'another'""",
}
_HUB_METRICS = {  # the Hub's names, where it has others
    "macro_f1": "f1",
    "entity_f1": "f1",
    "entity_precision": "precision",
    "entity_recall": "recall",
    "spearman": "spearmanr",
    "ece": "expected_calibration_error",
}
_STRATEGY = {
    "probe": "a head on frozen features",
    "partial": "the head and the last groups of layers were trained (partial)",
    "full": "the head and all layers were trained (full)",
    "lora": "the head and low-rank additions to all linear layers were trained, and merged (lora)",
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is written from; what is None or empty is left out.

    Attributes:
        name: the model's name, as `models.version.check_name` allows it.
        version: the version's number.
        backbone: as the user named it, such as ``timm:resnet50``.
        classes: labels in the order of the head's rows; of a regression, the name of the value.
        label_changes: since the version before.
        task: what is answered.
        pair: whether pairs of texts are read.
        created: date, such as ``2026-03-01``.
        libraries: library to version.
        base_model: the backbone's id on the Hugging Face Hub, if it has one.
        license: a licence id of the Hub, such as ``apache-2.0``.
        dataset: what the user calls the data; no path of their machine.
        rows: number of rows by split, in the order of the table.
        fingerprint: sha256 of the data.
        training: how the head was found.
        temperature: what logits are divided by before they become scores; None where they are the answer.
        threshold: of the scores of labels that hold.
        interval: half the width of the interval around a value.
        dimensions: of an embedding; None where there is a head.
        evaluation: of the test split, as `Evaluation.to_dict` gives it; None for what was imported.
        figures: title and file of each.
        without_duplicates: the same for the test rows that have no duplicate in the training data.
        heads: by precision, as in the manifest; compared in a table where there are several.
        findings: severity and message of each finding of the data check.
        curves: of a training run.
        mistakes: on the test split, those that the model is surest of.
        comparison: with the version before.
    """

    name: str
    version: int
    modality: Modality
    backbone: str
    classes: Sequence[str]
    created: str
    libraries: Mapping[str, str]
    task: Task = Task.SINGLE_LABEL
    pair: bool = False
    base_model: str | None = None
    license: str | None = None
    dataset: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    training: Training | None = None
    temperature: float | None = None
    threshold: float | None = None
    interval: float | None = None
    dimensions: int | None = None
    evaluation: Mapping[str, Any] | None = None
    without_duplicates: Mapping[str, Any] | None = None
    figures: Sequence[tuple[str, str]] = ()
    heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: Sequence[tuple[str, str]] = ()
    curves: LearningCurves | None = None
    mistakes: Mistakes | None = None
    comparison: Comparison | None = None
    label_changes: LabelChanges | None = None


def model_card(facts: CardFacts) -> str:
    """The card as Markdown (GitHub's dialect); equal facts give equal text."""
    blocks = [
        f"---\n{_front_matter(facts)}---",
        f"# {escape(facts.name)}:{facts.version}",
        _purpose(facts),
        *_labels(facts),
        *_data(facts),
        *_training(facts),
        *_section("## Learning curves", facts.curves),
        *_results(facts),
        *_section("## Mistakes", facts.mistakes),
        *_section("## Against the version before", facts.comparison),
        *(precisions(facts.task, facts.heads) if facts.dimensions is None else embedding_precisions(facts.heads)),
        *_calls(facts),
        *_limitations(facts),
        "## Made with",
        ", ".join(f"{escape(library)} {escape(number)}" for library, number in facts.libraries.items())
        + f"; {escape(facts.created)}.",
    ]
    return "\n\n".join(blocks) + "\n"


def _front_matter(facts: CardFacts) -> str:
    import yaml

    pipeline = _pipeline(facts)
    metadata: dict[str, Any] = {
        "license": facts.license,
        "library_name": "graftwork",
        "pipeline_tag": pipeline,
        "base_model": facts.base_model,
        "tags": ["graftwork", "transfer-learning"],
    }
    if facts.evaluation is not None:
        data = facts.dataset or "unnamed"
        dataset = {"type": data, "name": data, "split": "test", "revision": facts.fingerprint}
        told = [metric for metric in HEADLINES[facts.task] if metric in facts.evaluation]
        metadata["metrics"] = list(
            dict.fromkeys(_HUB_METRICS.get(metric, metric) for metric in told if metric != "ece")
        )
        result = {
            "task": {"type": pipeline},
            "dataset": _without_none(dataset),
            "metrics": [
                {
                    "type": _HUB_METRICS.get(metric, metric),
                    "name": METRICS[metric][0],
                    "value": facts.evaluation[metric],
                }
                for metric in told
            ],
        }
        metadata["model-index"] = [{"name": facts.name, "results": [result]}]
    # Non-ASCII characters are escaped: raw, PyYAML's own reader takes some of them (U+0085) for line breaks.
    text: str = yaml.safe_dump(_without_none(metadata), sort_keys=False, width=10_000)
    return text


def _pipeline(facts: CardFacts) -> str:
    """The Hub's name for the task."""
    if facts.task is Task.EMBEDDING:
        return "image-feature-extraction" if facts.modality is Modality.IMAGE else "feature-extraction"
    if facts.task is Task.TOKEN_CLASSIFICATION:
        return "token-classification"
    if facts.task is Task.REGRESSION and facts.pair:
        return "sentence-similarity"
    return _PIPELINE[facts.modality]


def _reads(facts: CardFacts) -> str:
    return "pair of texts" if facts.pair else str(facts.modality)


def _section(heading: str, part: LearningCurves | Mistakes | Comparison | None) -> list[str]:
    return [] if part is None else [heading, *part.markdown()]


def _purpose(facts: CardFacts) -> str:
    reads = _reads(facts)
    what = f"an {reads}" if facts.modality is Modality.IMAGE else f"a {reads}"
    how = f"a head on the pretrained backbone {escape(facts.backbone)}."
    classes = list(facts.classes)
    match facts.task:
        case Task.EMBEDDING:
            return (
                f"Turns {what} into an embedding of {facts.dimensions:,} numbers: the features of the pretrained backbone "
                f"{escape(facts.backbone)}, without a head. What is alike has a high cosine."
            )
        case Task.REGRESSION:
            return f"For {what} it predicts {escape(classes[0])}, with a 90 % interval: {how}"
        case Task.MULTI_LABEL:
            purpose = f"Says of {what} which of {len(classes):,} labels hold, and how sure it is of each: {how}"
        case Task.TOKEN_CLASSIFICATION:
            classes = sorted({tag[2:] for tag in classes} - {""})
            purpose = f"Finds the words of {what} that name one of {len(classes):,} kinds of things: {how}"
        case _:
            purpose = f"Puts {what} into one of {len(classes):,} classes and says how sure it is: {how}"
    listed = ", ".join(escape(label) for label in classes[:MOST_CLASSES_LISTED])
    rest = len(classes) - MOST_CLASSES_LISTED
    return f"{purpose}\n\nClasses: {listed}" + (f" and {rest:,} more." if rest > 0 else ".")


def _labels(facts: CardFacts) -> list[str]:
    if facts.label_changes is None:
        return []
    return [f"Labels: {escape(sentence(facts.name, facts.label_changes))}."]


def _data(facts: CardFacts) -> list[str]:
    blocks = []
    if facts.rows:
        blocks.append(table(("split", "rows"), ((escape(split), f"{rows:,}") for split, rows in facts.rows.items())))
    if facts.fingerprint is not None:
        blocks.append(f"Fingerprint of contents, labels and splits: sha256 `{facts.fingerprint}`.")
    if facts.findings:
        blocks.append("What the data check found:")
        blocks.append("\n".join(f"- **{escape(severity)}**: {escape(message)}" for severity, message in facts.findings))
    elif facts.rows:
        blocks.append("The data check found nothing to report.")
    heading = "## Data" if facts.dataset is None else f"## Data: {escape(facts.dataset)}"
    return [heading, *blocks] if blocks else []


def _training(facts: CardFacts) -> list[str]:
    lines, training = [], facts.training
    if training is not None:
        lines.append(f"Strategy: {escape(_STRATEGY.get(training.strategy, training.strategy))}.")
        settings = dict(training.settings)
        c = settings.pop("regularisation_c", None)
        if c is not None:
            lines.append(f"Regularisation: L2 with C = {c:g} (inverse strength: smaller is stronger).")
        if settings:
            told = (f"{escape(name.replace('_', ' '))} {escape(str(value))}" for name, value in settings.items())
            lines.append(f"Settings: {', '.join(told)}.")
    if facts.temperature is not None:
        activation = facts.task.traits.activation
        lines.append(
            f"Calibration: logits are divided by the temperature {facts.temperature:.4g} before the {activation}."
        )
    if facts.threshold is not None:
        lines.append(f"Labels hold from a score of {facts.threshold:.3g} on.")
    if facts.interval is not None:
        lines.append(f"The true value is within {facts.interval:.4g} of the predicted one in 90 of 100 cases.")
    if training is not None and training.folds is not None:
        lines.append(
            f"Chosen by {training.folds}-fold cross-validation on all but the test split, on which the head was then "
            "fitted again."
        )
    elif training is not None:
        lines.append("Chosen and calibrated by a validation split, which the head was not trained on.")
    if training is not None:
        lines.append(f"Seed: {training.seed}.")
    return ["## Training", "\n".join(f"- {line}" for line in lines)] if lines else []


def _results(facts: CardFacts) -> list[str]:
    if facts.evaluation is None:
        what = "classifier" if facts.dimensions is None else "backbone"
        return ["## Results", f"Not evaluated here: the {what} was imported, not trained on data of this repository."]
    figures = [f"![{escape(title)}]({file})" for title, file in facts.figures]
    return ["## Results", *results(facts.task, facts.evaluation, facts.without_duplicates), *figures]


def _calls(facts: CardFacts) -> list[str]:
    call = _CALL[_reads(facts)].format(name=facts.name, version=facts.version)
    return ["## How to call it", f"```sh\n{call}\n```"]


def _limitations(facts: CardFacts) -> list[str]:
    lines = ["It inherits the biases of the backbone's pretraining data."]
    if facts.task is Task.SINGLE_LABEL:
        lines.insert(0, "It always answers with one of its classes, also for an input that belongs to none of them.")
    if facts.task is Task.TOKEN_CLASSIFICATION:
        lines.insert(0, "Words are what stands between white space: a mark that touches a word belongs to it.")
    if facts.evaluation is None:
        lines.append("Nothing is known about its accuracy on your data: evaluate it before you rely on it.")
    else:
        lines.append("Scores and confidences hold for inputs like the test split; other sources may give worse ones.")
        few = sum(one["support"] < FEW_ROWS for one in facts.evaluation["per_class"])
        if few:
            lines.append(
                f"Scores of {few:,} of its classes rest on fewer than {FEW_ROWS} test {NOUN[facts.task]} each."
            )
    return ["## Limitations", "\n".join(f"- {line}" for line in lines)]


def _without_none(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
