"""What training with boxes, or objects without them, is asked for, and what goes together."""

from __future__ import annotations

from ..datasets.labelled import LabelledSet, relabel
from ..errors import InvalidArgument, some_of
from .settings import OBJECTS, TrainingSettings


def check_objects(settings: TrainingSettings, boxes: object) -> None:
    """Refuse a number of objects a picture that there is not, or that wants boxes.

    Raises:
        InvalidArgument: if that is so.
    """
    if settings.objects is None:
        return
    if settings.objects not in OBJECTS:
        raise InvalidArgument(
            f"Unknown --objects '{settings.objects}'. Choose one (the largest of each picture) or "
            "many (all of them)."
        )
    if boxes is None and settings.objects == "one":
        raise InvalidArgument(
            "--objects one learns the largest box of each picture, so it needs --boxes "
            "ANNOTATIONS. Add them, or take --objects many, which can do without."
        )


def refuse_changes(asked: bool, settings: TrainingSettings) -> None:
    """Refuse, where boxes are added to a model, whatever would change it: `asked` of something
    else, or a setting.
    """
    if asked or settings.tunes_weights or not settings.clean or settings.image_size is not None:
        raise InvalidArgument(
            "--from keeps a model as it is and adds boxes: recipe, backbone, precision and "
            "their like don't go with it. Leave them out."
        )


def in_known_classes(labelled: LabelledSet, class_names: list[str]) -> LabelledSet:
    """Return labelled images, their labels spelled as a model's classes are.

    Raises:
        InvalidArgument: if an image's class is none of the model's.
    """
    found = relabel(labelled, class_names, "")
    unknown = [image.name for image in found.images if not image.label]
    if unknown:
        raise InvalidArgument(
            f"The model knows {some_of(class_names)}, and {len(unknown)} of the pictures are of "
            f"another class: {some_of(unknown)}. Leave them out."
        )
    return found
