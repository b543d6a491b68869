"""A project's labeling interface: which of its tags can be answered, and what they call classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ..errors import InvalidArgument, some_of
from ..words.class_names import fold, is_catch_all, split_none

MAX_TEXT = 1 << 20  # characters
CHOICES, RECTANGLES = "choices", "rectanglelabels"
_ENTRIES = {"Choices": "Choice", "RectangleLabels": "Label"}


@dataclass(frozen=True)
class Control:
    """One tag that can be answered.

    Attributes:
        kind: "choices" or "rectanglelabels", as results call it.
        from_name: its name.
        to_name: name of the image it is about.
        several: whether one image may have several of its labels.
        labels: its labels, as results write them, in order.
        known_as: every name of a label, folded -> the label.
    """

    kind: str
    from_name: str
    to_name: str
    several: bool
    labels: tuple[str, ...]
    known_as: dict[str, str]

    def label_of(self, class_name: str) -> str | None:
        """Return what the tag calls a class of a model, or None where it has no such label.

        A class that means "anything else" is called as the tag calls it: `not cat`, none, other.
        """
        found = self.known_as.get(_loose(class_name))
        if found is None and is_catch_all(class_name):
            nothing = [label for label in self.labels if split_none([label])[1]]
            return nothing[0] if nothing else None
        return found


@dataclass(frozen=True)
class Interface:
    """What can be answered in a project.

    Attributes:
        image_key: where a task's data has the image's address.
        choices: labels of whole images, or None.
        rectangles: labels of boxes, or None.
    """

    image_key: str
    choices: Control | None
    rectangles: Control | None

    @property
    def controls(self) -> list[Control]:
        """The tags that can be answered, one at least."""
        return [one for one in (self.choices, self.rectangles) if one is not None]

    @property
    def teacher(self) -> Control:
        """The tag whose annotations are learned from."""
        return self.controls[0]


def read_interface(text: object, class_names: Iterable[str] = ()) -> Interface:
    """Return what can be answered in a labeling interface.

    Args:
        text: Label Studio's label_config, XML.
        class_names: of the model. Of several tags of a kind, the one with most of them is taken.

    Raises:
        InvalidArgument: if it is none, or has no tag that can be answered.
    """
    root = _parse(text)
    images = {str(tag.get("name")): tag for tag in root.iter("Image") if tag.get("name")}
    found = [
        control
        for tag in root.iter()
        if tag.tag in _ENTRIES and (control := _control(tag, images)) is not None
    ]
    if not found:
        tags = sorted({str(tag.tag) for tag in root.iter() if tag is not root})
        raise InvalidArgument(
            "wordsight answers Choices and RectangleLabels on an Image, and finds none that it can "
            f"answer in this labeling interface (it has {some_of(tags)}). The Image needs one "
            'address a task, such as value="$image", and the labels must stand in the interface. '
            "Set it up under Settings, Labeling Interface, then connect again."
        )
    names = list(class_names)

    def best(kind: str, image: str | None = None) -> Control | None:
        fitting = [c for c in found if c.kind == kind and image in (None, c.to_name)]
        known = [sum(c.label_of(name) is not None for name in names) for c in fitting]
        return fitting[known.index(max(known))] if fitting else None

    choices = best(CHOICES)
    rectangles = best(RECTANGLES, None if choices is None else choices.to_name)
    image = images[next(c for c in (choices, rectangles) if c is not None).to_name]
    return Interface(_key(image), choices, rectangles)


def _parse(text: object) -> ElementTree.Element:
    if not isinstance(text, str) or not text.strip():
        raise InvalidArgument(
            "This project has no labeling interface yet. Set one up under Settings, Labeling "
            "Interface, then connect again."
        )
    if len(text) > MAX_TEXT or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InvalidArgument(
            "This labeling interface is too large or declares entities, which none needs."
        )
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidArgument(f"This labeling interface can't be read as XML: {error}.") from None


def _control(tag: ElementTree.Element, images: dict[str, ElementTree.Element]) -> Control | None:
    """Return a tag as one that can be answered, or None."""
    targets = [name.strip() for name in tag.get("toName", "").split(",")]
    image = next((name for name in targets if name in images), None)
    entries = list(tag.iter(_ENTRIES[str(tag.tag)]))
    labels = [one for one in entries if one.get("value") or one.get("alias")]
    if image is None or not tag.get("name") or not labels or tag.get("perRegion") == "true":
        return None
    if not (images[image].get("value") or "").startswith("$"):
        return None
    kind = CHOICES if tag.tag == "Choices" else RECTANGLES
    several = kind == RECTANGLES or tag.get("choice") == "multiple"
    written, known_as = [], dict[str, str]()
    for one in labels:
        label = str(one.get("alias") or one.get("value"))
        written.append(label)
        for name in _names(one):
            known_as.setdefault(_loose(name), label)
    return Control(
        kind, str(tag.get("name")), image, several, tuple(dict.fromkeys(written)), known_as
    )


def _names(label: ElementTree.Element) -> Sequence[str]:
    """Return every name of a label: what people see, its alias, and its predicted_values."""
    aliases = (label.get("predicted_values") or "").split(",")
    names = (label.get("value"), label.get("alias"), *aliases)
    return [name for name in names if name and name.strip()]


def _loose(name: str) -> str:
    return fold(name.replace("_", " "))


def _key(image: ElementTree.Element) -> str:
    return str(image.get("value")).removeprefix("$")
