"""What timm and transformers load by themselves."""

from __future__ import annotations

from models.backbone import Modality
from models.errors import InvalidParameter
from service.export.directory_export import DirectoryFormat
from service.export.subject import Subject


def huggingface_format(subject: Subject) -> DirectoryFormat:
    """The format of a version's own library.

    Raises:
        InvalidParameter: its backbone is of neither.
    """
    config = subject.stored.config
    if config.library == "graftwork":
        raise InvalidParameter(f"no library but graftwork builds {config.architecture}; use --format onnx")
    if config.modality is Modality.IMAGE:
        from service.export.timm_export import TimmFormat

        return TimmFormat(subject)
    from service.export.transformers_export import TransformersFormat

    return TransformersFormat(subject)
