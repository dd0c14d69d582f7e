from __future__ import annotations

from models.backbone import BackboneConfig, Modality
from models.features import FeatureKind
from service.triton.backbone_model import BackboneModel

DIGEST = "0123456789abcdef" * 4
IMAGES = BackboneConfig(
    source="timm:x",
    library="timm",
    architecture="x",
    modality=Modality.IMAGE,
    feature_dim=12,
    options={"input_size": [3, 20, 30]},
)
TEXTS = BackboneConfig(source="hf:y", library="transformers", architecture="y", modality=Modality.TEXT, feature_dim=8)


def test_images_go_in_as_the_bytes_of_their_pixels() -> None:
    model = BackboneModel.of(DIGEST, IMAGES)
    assert model.name == "backbone-0123456789abcdef-pooled"
    assert [(each.name, each.datatype, each.dims) for each in model.inputs] == [("pixels", "UINT8", (3, 20, 30))]
    assert (model.output.name, model.output.datatype, model.output.dims) == ("features", "FP32", (12,))


def test_texts_go_in_as_three_tensors_of_any_length_and_tokens_keep_their_axis() -> None:
    model = BackboneModel.of(DIGEST, TEXTS, FeatureKind.TOKENS)
    assert model.name == "backbone-0123456789abcdef-tokens"
    assert [each.name for each in model.inputs] == ["input_ids", "token_type_ids", "attention_mask"]
    assert {(each.datatype, each.dims) for each in model.inputs} == {("INT64", (-1,))}
    assert model.output.dims == (-1, 8)
