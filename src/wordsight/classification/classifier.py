"""The classifier: a backbone, a head and a sense of what is foreign to it. Predicts images;
`model_folder` keeps it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..backbones.backbone import Backbone
from ..backbones.embedder import Embedder, open_photo
from ..backbones.encoding import Encoding
from ..core.home import expand
from ..core.notebook import frame
from ..core.progress import Progress
from ..core.summary import Problems, Table, as_html, as_text
from ..datasets.files import ImageFile
from ..errors import InvalidArgument, some_of
from ..heads.boxes import BoxHead
from ..heads.decision import Decisions, decide
from ..heads.guarantee import HeldOut, PrecisionGuarantee, keep_promise
from ..heads.linear import LinearHead
from ..heads.novelty import Neighbourhood
from ..heads.objects import ObjectHead
from ..heads.zero_shot import UNDECIDED, WordsHead
from ..heatmaps.grid import Grid
from ..heatmaps.heatmap import Heatmap, HeatmapSettings, extent_of, look, one_pass
from ..heatmaps.one_pass import MASK_THRESHOLD, heatmap_box
from ..heatmaps.two_places import together
from ..images.decoding import Photo
from ..words.class_names import NONE_OF_THESE
from ..words.roll_up import classes_below
from .model_folder import check_threshold, read_model, write_model
from .model_tables import draw_history
from .predictions import Label, Prediction
from .record import ModelRecord
from .results import Results

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

TRAINING_FIELDS = (
    "path",
    "recipe",
    "pictures",
    "unreadable",
    "unused",
    "left_out",
    "metrics",
    "threshold",
    "promise",
    "validation_loss",
    "boxes",
)  # of the record, that `to_dict` gives

UNPROMISED = (
    "A promised precision (--precision) is checked for the classes alone, not for the words of "
    "--roll-up. Use -t with it, or leave one of them out."
)


@dataclass
class Classifier:
    """A trained classifier.

    Attributes:
        class_names: in the head's order.
        head: linear head on the backbone's embedding.
        backbone: prepared backbone.
        neighbourhood: where the training images lie, or None.
        words: of a model made from words, what gives their probabilities, else None; its `head`
            then serves heat maps and windows.
        catch_all: index of a class that means "anything else" (of a yes/no question), or None.
            Nothing is foreign to it.
        record: how it was made, from what, and how good it was; kept in wordsight.json.
        history: how it was trained, a row an epoch (or a candidate tried), a DataFrame by
            `to_pandas()`.
        held_out: what it said of labelled images it had not learned from, or None.
        box_head: what draws the box of the object, learned from annotated images; None: boxes
            come from heat maps.
        object_head: what finds every object, learned from annotated images, or None.
        roll_up: word -> indices of the classes below it, the narrowest word first: what a label
            may fall back to where no class is sure; see `rolling_up`. Not kept in the folder.
        above: of a model made from words, what gives the probabilities of those of `roll_up`, each
            learned as a word is; else None. Not kept either.
        seen: file name -> (classes,) probabilities of photos that a text–image model saw while this
            model was made, by what both say; NaN for words that it wasn't asked about. Not kept
            either.
    """

    class_names: list[str]
    head: LinearHead
    backbone: Backbone
    neighbourhood: Neighbourhood | None = None
    words: WordsHead | None = None
    catch_all: int | None = None
    record: ModelRecord = field(default_factory=ModelRecord)
    history: list[dict] = field(default_factory=list)
    held_out: HeldOut | None = None
    box_head: BoxHead | None = None
    object_head: ObjectHead | None = None
    roll_up: dict[str, tuple[int, ...]] = field(default_factory=dict)
    above: WordsHead | None = None
    seen: dict[str, np.ndarray] = field(default_factory=dict)

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The model's backbone in its engine, with the cache; closed with the model."""
        return Embedder(self.backbone)

    @property
    def nothing(self) -> int | None:
        """Index of the class that means "none of these" and is never a label, or None."""
        return self.class_names.index(NONE_OF_THESE) if NONE_OF_THESE in self.class_names else None

    @property
    def mask_threshold(self) -> float:
        """Share of a heat map's peak (0–1) from which masks and boxes are cut: chosen on
        annotated images where it learned from any, else 0.2.
        """
        return float(self.record.mask_threshold or MASK_THRESHOLD)

    def to_pandas(self) -> pandas.DataFrame:
        """Return how it was trained as a DataFrame, a row an epoch (or a candidate tried)."""
        return frame(self.history)

    def plots(self) -> dict[str, Figure]:
        """Return matplotlib figures of its training: "loss" and "accuracy" over the epochs,
        "mean_iou" of boxes, "ap50" of objects; empty where it had none of these.
        """
        return draw_history(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        title = (
            f"A classifier of {len(self.class_names)} classes: {self.record.recipe} on "
            f"{self.backbone.name}"
        )
        return as_html(title, self)

    @property
    def complete(self) -> bool:
        """Whether training could use all it was given, and make the promise asked for."""
        return self.record.complete

    def tables(self) -> list[Table]:
        """Return how many images of each class it learned from."""
        counts = self.record.images
        rows = [[name, str(counts.get(name, ""))] for name in self.class_names]
        return [Table(["class", "pictures"], rows)]

    def notes(self) -> list[str]:
        """Return how good it is, and where it is."""
        return self.record.notes()

    def problems(self) -> list[Problems]:
        """Return what it was given and did not learn from."""
        return self.record.problems()

    def to_dict(self) -> dict[str, Any]:
        """Return its classes and how its training went, ready for JSON."""
        known = self.record.to_dict()
        return {
            "classes": self.class_names,
            **{name: known[name] for name in TRAINING_FIELDS if name in known},
        }

    def is_stranger(self, embeddings: np.ndarray) -> np.ndarray:
        """Whether each of n embeddings (n, C) lies outside what it learned from, (n,) bool."""
        stranger = np.zeros(len(embeddings), dtype=bool)
        if self.neighbourhood is not None:
            stranger |= self.neighbourhood.familiarity(embeddings) < self.neighbourhood.limit
        if self.words is not None:
            stranger |= self.words.is_stranger(embeddings)
        return stranger

    def familiarity(self, embeddings: np.ndarray) -> np.ndarray:
        """Return how near embeddings (n, C) lie to what the model learned from, (n,); larger is
        more familiar.

        Raises:
            InvalidArgument: if the model keeps nothing to compare with.
        """
        if self.neighbourhood is None:
            raise InvalidArgument(
                "This model can't say how familiar a picture is: it keeps no picture it "
                "learned from. Train one with 'wordsight train'."
            )
        return self.neighbourhood.familiarity(embeddings)

    def promise(self, precision: float) -> PrecisionGuarantee:
        """Choose the threshold from which labels are right in at least `precision` of cases, at 95
        % confidence.

        Args:
            precision: 0.5–0.9999.

        Raises:
            InvalidArgument: if it is out of range, or the model was made without labelled images.
        """
        if self.held_out is None:
            raise InvalidArgument(
                "This model learned from no labelled picture, so no precision can be promised. "
                "Train one with 'wordsight train', or use -t."
            )
        return keep_promise(self.held_out, precision)

    def rolling_up(self, words: str | Iterable[str] | None) -> Classifier:
        """Return this model, with labels that may fall back to words above several classes; the
        network is shared. None: as it is.

        Args:
            words: "canine,feline" or a list.

        Raises:
            InvalidArgument: if a word is above fewer than two classes, or the model's classes are
                words that may stand together, so that their probabilities don't add up.
        """
        if words is None:
            return self
        if self.words is not None:
            raise InvalidArgument(
                "This model's words may stand together in a photo, so their probabilities don't "
                "add up to that of a word above them, which must be learned from the photos, too: "
                "'wordsight run -c WORDS -p PHOTOS --roll-up WORDS' without -m."
            )
        self.embedder  # noqa: B018 - opened once, for both
        model = copy(self)
        model.roll_up = classes_below(words, self.class_names)
        return model

    def _parents(self, embedding: np.ndarray, shares: np.ndarray) -> dict[str, float]:
        """Return the probabilities of the words that a label may fall back to, the narrowest first:
        of those above the likeliest class. Classes exclude each other, so theirs add up. Words may
        stand together, so what is above them was learned as they were, and is at least as likely
        as the likeliest of them.

        Args:
            embedding: (C,) of the image.
            shares: (classes,) its calibrated probabilities.
        """
        if not self.roll_up:
            return {}
        sums = (
            [float(shares[list(below)].sum()) for below in self.roll_up.values()]
            if self.above is None
            else self.above.words(embedding[None])[0].tolist()
        )
        top = int(shares.argmax())
        return {
            name: min(1.0, max(probability, float(shares[top])))
            for (name, below), probability in zip(self.roll_up.items(), sums, strict=True)
            if top in below
        }

    def decide_all(self, embeddings: np.ndarray, threshold: float | None) -> Decisions:
        """Decide on embeddings (n, C); a threshold of None gives no label."""
        return decide(
            (self.words or self.head).probabilities(embeddings),
            self.is_stranger(embeddings),
            threshold,
            self.catch_all,
            self.nothing,
        )

    def decide(self, name: str, embedding: np.ndarray, threshold: float | None) -> Prediction:
        """Return the prediction for one embedding (C,): a label only if sure enough and no
        stranger; none at all for a threshold of None. Of a stranger to what was learned, the
        probabilities say nothing, so it has none.
        """
        decided = self.decide_all(embedding[None], threshold)
        if name in self.seen:
            decided = self._decide_seen(name, decided.probabilities, threshold)
        return self._prediction(name, embedding, decided, threshold)

    def _decide_seen(
        self, name: str, probabilities: np.ndarray, threshold: float | None
    ) -> Decisions:
        """Decide on a photo by what a text–image model said of it, where it said something.

        Args:
            name: of the file.
            probabilities: (1, classes) of the head alone.
            threshold: as in `decide`.
        """
        told = self.seen.get(name)
        if told is not None:
            probabilities = np.where(np.isnan(told), probabilities, told)
        words = probabilities if self.catch_all is None else probabilities[:, :1]
        unlike = words.max(axis=1) < UNDECIDED
        return decide(probabilities, unlike, threshold, self.catch_all, self.nothing)

    def decide_photo(
        self,
        name: str,
        embedding: np.ndarray,
        feature_map: Callable[[], np.ndarray | None],
        threshold: float | None,
    ) -> Prediction:
        """Return the prediction for a photo as `decide` does, and where it may show several of a
        model's words, look for them at different places.

        Args:
            name: of the file.
            embedding: (C,) of the photo.
            feature_map: returns its (C, h, w), or None where there is none; called only if needed.
            threshold: as in `decide`.
        """
        whole, words = self.decide(name, embedding, threshold), self.words
        if words is None or not words.may_hold_several(embedding[None])[0]:
            return whole
        places = feature_map()
        if places is None:
            return whole
        found = np.maximum(words.words(embedding[None]), together(words.words, places))
        decided = self._decide_seen(name, found, threshold)
        return self._prediction(name, embedding, decided, threshold)

    def _prediction(
        self, name: str, embedding: np.ndarray, decisions: Decisions, threshold: float | None
    ) -> Prediction:
        """Return the prediction of the only image that was decided on."""
        top_label = self.class_names[int(decisions.top[0])]
        stranger = bool(decisions.stranger[0])
        found = Prediction(file_name=name, top_label=top_label, stranger=stranger)
        if stranger and self.words is None:
            return found
        rounded = [round(float(share), 6) for share in decisions.probabilities[0]]
        found.probabilities = dict(zip(self.class_names, rounded, strict=True))
        found.probability = found.probabilities[top_label]
        found.several = self.words is not None and self.catch_all is None
        found.parents = self._parents(embedding, decisions.probabilities[0])
        if decisions.accepted[0]:
            found.label = top_label
            found.labels = [
                Label(top_label, found.probability),
                *(one for one in found.labels_at(threshold) if one.label != top_label),
            ]
        else:
            found.roll_up(threshold)
        return found

    def predict(
        self,
        photos: str | os.PathLike | Iterable[str | os.PathLike],
        *,
        output: str | os.PathLike | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        roll_up: str | Iterable[str] | None = None,
        heatmap_settings: HeatmapSettings | None = None,
        grid: Grid | None = None,
        draw: bool = True,
        progress: Progress | None = None,
    ) -> Results:
        """Predict what photos show, as `wordsight.predict` does; without an output, the results
        stay in memory.
        """
        from .photos import predict

        return predict(
            photos,
            self,
            output=output,
            threshold=threshold,
            precision=precision,
            roll_up=roll_up,
            heatmap_settings=heatmap_settings,
            grid=grid,
            draw=draw,
            progress=progress,
        )

    def predict_file(self, file: ImageFile, threshold: float | None) -> Prediction:
        """Return what one file shows, with its box and without its map; `error` where it can't be
        read.

        Args:
            file: the image.
            threshold: probability from which a label is given; None for none.
        """
        from .photos import Run

        return Run(self, threshold).predict(file).without_maps()

    def threshold_for(
        self, threshold: float | None = None, precision: float | None = None
    ) -> tuple[float | None, str | None]:
        """Return the threshold to decide by, None where no label may be given, and what is to be
        said of it.

        Args:
            threshold: one asked for, 0–1, or None.
            precision: one asked for instead, or None for neither: the model's own threshold.

        Raises:
            InvalidArgument: if both were asked for, one is out of range, or a promise would have
                to cover words that labels fall back to.
        """
        if not self.roll_up:
            return self._own_threshold_for(threshold, precision)
        self._refuse_promise(threshold, precision)
        chosen, note = self._own_threshold_for(threshold, precision)
        told = "; ".join(
            f"{word} ({some_of([self.class_names[index] for index in below])})"
            for word, below in self.roll_up.items()
        )
        falls = f"Where no class is sure enough, a label may be {told}."
        return chosen, f"{note} {falls}" if note else falls

    def _own_threshold_for(
        self, threshold: float | None, precision: float | None
    ) -> tuple[float | None, str | None]:
        """Return what `threshold_for` does, for labels that are classes."""
        if threshold is not None and precision is not None:
            raise InvalidArgument(
                "Give either a threshold (-t) or a precision (--precision), not both."
            )
        if threshold is not None:
            return check_threshold(threshold), self.record.stand_in_note()
        if precision is not None:
            promise = self.promise(precision)
            return promise.threshold, promise.sentence()
        if self.record.promise is not None:
            return self.record.threshold, self.record.promise.sentence()
        return self.record.threshold, self.record.stand_in_note()

    def _refuse_promise(self, threshold: float | None, precision: float | None) -> None:
        """Refuse to promise a precision of labels that fall back to other words."""
        if precision is not None:
            raise InvalidArgument(UNPROMISED)
        if threshold is None and self.record.promise is not None:
            raise InvalidArgument(
                "This model's threshold keeps a promise, which was checked for its classes alone, "
                "not for the words of --roll-up. Say from which probability to label, such as "
                "-t 0.99."
            )

    def needs_map(self, settings: HeatmapSettings) -> bool:
        """Whether locating a label takes the maps of an ordinary pass."""
        return self.backbone.pooled and (
            one_pass(self.backbone, settings) or self.box_head is not None
        )

    def localize(
        self,
        prediction: Prediction,
        photo: Photo,
        encoding: Encoding | None = None,
        settings: HeatmapSettings | None = None,
    ) -> None:
        """Give an accepted prediction its heat map, its extent, and its box, from the box head
        where there is one, else from the extent or the heat map; each of several labels its own.

        Args:
            prediction: with a label; `map`, `extent` and `box_xyxy` are set, also of its labels.
            photo: the decoded image.
            encoding: its embedding and feature maps, where a pass has made them already.
            settings: how the heat map is made; by default in one pass.
        """
        settings = settings or HeatmapSettings()
        assert prediction.label is not None
        if encoding is None and self.needs_map(settings):
            encoding = self.embedder.encode(photo, feature_map=True)
        for other in prediction.labels[1:]:
            other.map, other.extent, other.box_xyxy = self._seen(
                other.label, photo, encoding, settings
            )
        # of a word above classes, where the likeliest of these is
        shown = prediction.top_label if prediction.rolled_up else prediction.label
        prediction.map, prediction.extent, prediction.box_xyxy = self._seen(
            str(shown), photo, encoding, settings
        )
        height, width = photo.size
        if prediction.part is not None:
            prediction.box_xyxy = list(prediction.part)
        elif (
            self.box_head is not None and encoding is not None and encoding.feature_map is not None
        ):
            sides = self.box_head.box(encoding.feature_map, encoding.middle_map) * (
                width,
                height,
                width,
                height,
            )
            prediction.box_xyxy = [round(float(side), 1) for side in sides]
        if prediction.labels:
            prediction.labels[0].map = prediction.map
            prediction.labels[0].extent = prediction.extent
            prediction.labels[0].box_xyxy = prediction.box_xyxy

    def _seen(
        self, label: str, photo: Photo, encoding: Encoding | None, settings: HeatmapSettings
    ) -> tuple[np.ndarray, np.ndarray | None, list[float] | None]:
        """Return the heat map of a class, its extent where there is one, and the box of that."""
        weight = self.head.weight[self.class_names.index(label)]
        feature_map = None if encoding is None else encoding.feature_map
        heat = look(photo, self.embedder, weight, settings, feature_map)
        reach = extent_of(heat, encoding) if one_pass(self.backbone, settings) else None
        cut = heat if reach is None else reach
        return heat, reach, heatmap_box(cut, photo.size, self.mask_threshold)

    def heatmap(
        self,
        image: str | os.PathLike | Image.Image | np.ndarray,
        class_name: str | None = None,
        *,
        heatmap_settings: HeatmapSettings | None = None,
    ) -> Heatmap:
        """Show where the network looks for a class, likely or not.

        Args:
            image: path, PIL image, or (height, width, 3) uint8 RGB.
            class_name: the class; by default the likeliest.
            heatmap_settings: method, layer, scales; by default one pass where the head allows.

        Raises:
            InvalidArgument: if there is no such class, method, layer or scale.
            UnreadableImage, NotFound: if the image can't be read.
        """
        if class_name is not None and class_name not in self.class_names:
            raise InvalidArgument(
                f"The model has no class '{class_name}'; it knows: {some_of(self.class_names)}."
            )
        heatmap_settings = heatmap_settings or HeatmapSettings()
        heatmap_settings.check(self.backbone)
        photo = open_photo(image)
        embedder = self.embedder
        encoding = embedder.encode(photo, feature_map=True)
        index = (
            int(self.head.logits(encoding.embedding[None])[0].argmax())
            if class_name is None
            else self.class_names.index(class_name)
        )
        grid = look(
            photo, embedder, self.head.weight[index], heatmap_settings, encoding.feature_map
        )
        return Heatmap(
            self.class_names[index],
            grid,
            photo.size,
            self.mask_threshold,
            photo.image,
            extent_of(grid, encoding) if one_pass(self.backbone, heatmap_settings) else None,
        )

    def save(self, path: str | os.PathLike) -> Path:
        """Write the model folder whole or not at all; timm loads it as `local-dir:PATH`.

        Raises:
            InvalidArgument: if the folder exists and is no model.
            OutputError: if it can't be written.
        """
        return write_model(self, expand(path))


def load(path: str | os.PathLike, *, engine: str = "auto", dtype: str = "auto") -> Classifier:
    """Load a model folder.

    Args:
        path: the folder.
        engine: where the model runs: "auto", "openvino" or "torch".
        dtype: the type it computes in: "int8", "bf16", "f32", or "auto": the one it learned with,
            or f32 where int8 is no faster here.

    Raises:
        NotFound: if there is no such folder.
        InvalidModel: if it is half written, foreign, damaged or of another version.
        BackboneUnavailable: if its network can't be built here.
    """
    model = Classifier(**read_model(path))
    if dtype == "auto" and model.record.dtype != "int8":  # what was promised was measured in it
        dtype = model.record.dtype or "f32"
    model.backbone = replace(model.backbone, engine=engine, dtype=dtype)
    return model
