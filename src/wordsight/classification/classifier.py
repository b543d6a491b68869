"""The classifier: a backbone, a head and a sense of what is foreign to it. Predicts images;
`model_folder` keeps it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..backbones.embedder import Embedder, EncodedImage, open_photo
from ..backbones.registry import Backbone
from ..backbones.runtime import callers
from ..core.home import expand
from ..core.notebook import block, frame, line, table
from ..core.progress import Progress, or_notebook
from ..core.threads import parallel_map
from ..datasets.files import RESULT_FOLDERS, ImageFile, find_images, refuse_photos_among_results
from ..errors import InvalidArgument, UnreadableImage, some_of
from ..heads.boxes import BoxHead
from ..heads.decision import Decisions, decide
from ..heads.guarantee import HeldOut, PrecisionGuarantee, keep_promise
from ..heads.linear import LinearHead
from ..heads.novelty import Neighbourhood
from ..heads.zero_shot import Gate
from ..heatmaps.grid import Grid, part_embeddings
from ..heatmaps.heatmap import Heatmap, HeatmapSettings, look
from ..heatmaps.one_pass import MASK_THRESHOLD, class_heatmap, heatmap_box
from ..images.decoding import Photo
from ..reports.page import check_report_target, remove_report
from ..reports.sections import made_by
from .model_folder import check_threshold, draw_history, read_model, write_model
from .model_sections import about_model
from .predictions import Counts, Part, Prediction, Results, ResultsWriter
from .record import ModelRecord
from .report import ResultsReport

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass
class Classifier:
    """A trained classifier.

    Attributes:
        class_names: in the head's order.
        head: linear head on the backbone's embedding.
        backbone: prepared backbone.
        neighbourhood: where the training images lie, or None.
        gate: for heads made from words, how much of the backbone's own probability the words hold,
            else None.
        catch_all: index of a class that means "anything else" (of a yes/no question), or None.
            Nothing is foreign to it.
        record: how it was made, from what, and how good it was; kept in wordsight.json.
        history: how it was trained, a row an epoch (or a candidate tried), a DataFrame by
            `to_pandas()`.
        held_out: what it said of labelled images it had not learned from, or None.
        box_head: what draws the box of the object, learned from annotated images; None: boxes
            come from heat maps.
    """

    class_names: list[str]
    head: LinearHead
    backbone: Backbone
    neighbourhood: Neighbourhood | None = None
    gate: Gate | None = None
    catch_all: int | None = None
    record: ModelRecord = field(default_factory=ModelRecord)
    history: list[dict] = field(default_factory=list)
    held_out: HeldOut | None = None
    box_head: BoxHead | None = None

    @functools.cached_property
    def embedder(self) -> Embedder:
        """The model's backbone in its engine, with the cache; closed with the model."""
        return Embedder(self.backbone)

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
        "mean_iou" of boxes; empty where it had no epochs.
        """
        return draw_history(self)

    def _repr_html_(self) -> str:
        known = [[name, self.record.images.get(name, "")] for name in self.class_names]
        told = [
            f"{key.replace('_', ' ')}: {value:.4g}" for key, value in self.record.metrics.items()
        ]
        said = [
            f"{self.record.recipe} on {self.backbone.name}",
            ", ".join(told),
            None if self.record.promise is None else self.record.promise.sentence(),
            self.record.path,
        ]
        return block(
            f"A classifier of {len(self.class_names)} classes",
            table(["class", "pictures it learned from"], known),
            *map(line, said),
        )

    def is_stranger(self, embeddings: np.ndarray) -> np.ndarray:
        """Tell for embeddings (n, C) whether each lies outside what the model learned from,
        (n,) bool.
        """
        stranger = np.zeros(len(embeddings), dtype=bool)
        if self.neighbourhood is not None:
            stranger |= self.neighbourhood.familiarity(embeddings) < self.neighbourhood.limit
        if self.gate is not None:
            stranger |= self.gate.is_stranger(embeddings)
        return stranger

    def familiarity(self, embeddings: np.ndarray) -> np.ndarray:
        """Return how near embeddings (n, C) lie to what the model learned from, (n,); larger is
        more familiar.

        Raises:
            InvalidArgument: the model keeps nothing to compare with.
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
            InvalidArgument: out of range, or the model was made without labelled images.
        """
        if self.held_out is None:
            raise InvalidArgument(
                "This model learned from no labelled picture, so no precision can be promised. "
                "Train one with 'wordsight train', or use -t."
            )
        return keep_promise(self.held_out, precision)

    def decide_all(self, embeddings: np.ndarray, threshold: float | None) -> Decisions:
        """Decide on embeddings (n, C); a threshold of None gives no label."""
        return decide(
            self.head.probabilities(embeddings),
            self.is_stranger(embeddings),
            threshold,
            self.catch_all,
        )

    def decide(self, name: str, embedding: np.ndarray, threshold: float | None) -> Prediction:
        """Return the prediction for one embedding (C,): a label only if sure enough and no
        stranger; none at all for a threshold of None.
        """
        decision = self.decide_all(embedding[None], threshold)
        top_label = self.class_names[int(decision.top[0])]
        shares = zip(self.class_names, decision.probabilities[0], strict=True)
        return Prediction(
            file_name=name,
            label=top_label if decision.accepted[0] else None,
            top_label=top_label,
            probability=round(float(decision.probability[0]), 6),
            probabilities={name: round(float(share), 6) for name, share in shares},
            stranger=bool(decision.stranger[0]),
        )

    def predict(
        self,
        photos: str | os.PathLike | Iterable[str | os.PathLike],
        threshold: float | None = None,
        output: str | os.PathLike | None = None,
        draw: bool = True,
        progress: Progress | None = None,
        precision: float | None = None,
        heatmap_settings: HeatmapSettings | None = None,
        grid: Grid | None = None,
    ) -> Results:
        """Say what each photo shows, or nothing where that isn't sure.

        Args:
            photos: folders, files or globs.
            threshold: calibrated probability from which a label is given, 0–1; default: the
                model's, 0.99. A model whose promise the images could not support gives no label
                without one.
            output: folder for tables, originals, heat maps, masks and report.html; None writes
                nothing.
            draw: False writes tables only.
            progress: called with (done, total, "photos").
            precision: instead of a threshold, the share of labels that must be right; see
                `promise`.
            heatmap_settings: how heat maps are made; by default in one pass.
            grid: look at quarters (or other parts) of each photo, too, and let the surest of them
                answer.

        Raises:
            NotFound, InvalidArgument: nothing to predict, a threshold outside 0–1, or both it and a
                precision.
            OutputError: the results can't be written.
        """
        progress = or_notebook(progress)
        threshold, note = self.threshold_for(threshold, precision)
        heatmap_settings = heatmap_settings or HeatmapSettings()
        heatmap_settings.check(self.backbone)
        if grid is not None:
            grid.check(self.backbone)
        sources = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
        folder = None if output is None else expand(output)
        found = find_images(sources, exclude=folder)
        if folder is not None:
            refuse_photos_among_results(found.images, folder, RESULT_FOLDERS)
            if draw:
                check_report_target(folder)
        counts, kept = Counts(skipped=found.skipped), []
        writer = (
            None
            if folder is None
            else ResultsWriter(folder, self.class_names, draw, grid is not None, sources)
        )
        report = None

        def job(file: ImageFile) -> Prediction:
            return self._predict_one(file, _Way(threshold, heatmap_settings, grid), writer, report)

        try:
            report = (
                ResultsReport(folder, self.class_names, threshold)
                if folder is not None and draw
                else None
            )
            for prediction in parallel_map(job, found.images, callers(self.embedder.engine)):
                counts.add(prediction)
                if writer is None:
                    kept.append(prediction)
                else:
                    writer.add(prediction)
                if progress:
                    progress(counts.total, len(found.images), "photos")
            if writer is not None:
                writer.finish(counts)
            if report is not None:
                report.write(
                    counts,
                    about_model(self.record, self.history, self.class_names),
                    made_by(self.backbone.name, self.class_names),
                    note,
                )
            elif folder is not None:
                remove_report(folder)
        finally:
            self.embedder.cache.flush()
            if report is not None:
                report.close()
            if writer is not None:
                writer.close()
        copied = None if writer is None else writer.copied_bytes
        return Results(self.class_names, threshold, counts, folder, copied, kept, note)

    def predict_file(self, file: ImageFile, threshold: float | None) -> Prediction:
        """Return what one file shows, with its box and without its map; `error` where it can't be
        read.

        Args:
            file: the image.
            threshold: probability from which a label is given; None for none.
        """
        seen = self._predict_one(file, _Way(threshold, HeatmapSettings(), None), None, None)
        seen.map = None
        return seen

    def threshold_for(
        self, threshold: float | None = None, precision: float | None = None
    ) -> tuple[float | None, str | None]:
        """Return the threshold to decide by, None where no label may be given, and what is to be
        said of it.

        Args:
            threshold: one asked for, 0–1, or None.
            precision: one asked for instead, or None for neither: the model's own threshold.

        Raises:
            InvalidArgument: if both were asked for, or one is out of range.
        """
        if threshold is not None and precision is not None:
            raise InvalidArgument(
                "Give either a threshold (-t) or a precision (--precision), not both."
            )
        if threshold is not None:
            return check_threshold(threshold), None
        if precision is not None:
            promise = self.promise(precision)
            return promise.threshold, promise.sentence()
        note = None if self.record.promise is None else self.record.promise.sentence()
        return self.record.threshold, note

    def _predict_one(
        self,
        file: ImageFile,
        way: _Way,
        writer: ResultsWriter | None,
        report: ResultsReport | None,
    ) -> Prediction:
        try:
            one = self.embedder.open(file, feature_map=True)
            prediction = self.decide(file.name, one.embedding, way.threshold)
            if way.grid is not None:
                prediction = self._look_closer(prediction, one, way)
            if prediction.label is None and report is None:
                return prediction
            photo = one.photo
        except UnreadableImage as error:
            return Prediction(file.name, error=str(error))
        heat = None
        if prediction.label is not None:
            settings = way.heatmap_settings
            needed = one.feature_map if self._needs_map(settings) else None
            self.localize(prediction, photo, needed, settings)
            heat = prediction.map
        elif one.feature_map is not None and not prediction.stranger:
            # of a stranger, where the best guess comes from says nothing
            index = self.class_names.index(str(prediction.top_label))
            heat = class_heatmap(one.feature_map, self.head.weight[index])
        if writer is not None:
            writer.draw(prediction, file, photo.image, photo.size, self.mask_threshold)
            prediction.map = None
        if report is not None:
            report.keep(prediction, photo.image, photo.size, heat)
        return prediction

    def _look_closer(self, whole: Prediction, one: EncodedImage, way: _Way) -> Prediction:
        """Return the prediction of the whole or of its surest part, with all parts noted."""
        assert way.grid is not None
        catch_all = None if self.catch_all is None else self.class_names[self.catch_all]
        best = whole
        for box, embedding in part_embeddings(one.photo, self.embedder, way.grid, one.feature_map):
            seen = self.decide(whole.file_name, embedding, way.threshold)
            probability = float(seen.probability or 0)
            whole.parts.append(
                Part(box, seen.label, str(seen.top_label), probability, seen.stranger)
            )
            surer = best.label in (None, catch_all) or probability > float(best.probability or 0)
            # that a part shows nothing says little of the whole
            if seen.label not in (None, catch_all) and surer:
                best, best.part = seen, box
        best.parts = whole.parts
        return best

    def _needs_map(self, settings: HeatmapSettings) -> bool:
        """Whether locating a label takes the feature map."""
        return self.backbone.pooled and (settings.plain or self.box_head is not None)

    def localize(
        self,
        prediction: Prediction,
        photo: Photo,
        feature_map: np.ndarray | None = None,
        settings: HeatmapSettings | None = None,
    ) -> None:
        """Give an accepted prediction its heat map and its box, from the box head where there is
        one, else from the heat map.

        Args:
            prediction: with a label; `map` and `box_xyxy` are set.
            photo: the decoded image.
            feature_map: its (C, h, w), where a pass has made it already.
            settings: how the heat map is made; by default in one pass.
        """
        settings = settings or HeatmapSettings()
        assert prediction.label is not None
        if feature_map is None and self._needs_map(settings):
            feature_map = self.embedder.encode(photo, feature_map=True).feature_map
        weight = self.head.weight[self.class_names.index(prediction.label)]
        prediction.map = look(photo, self.embedder, weight, settings, feature_map)
        height, width = photo.size
        if prediction.part is not None:
            prediction.box_xyxy = list(prediction.part)
        elif self.box_head is not None and feature_map is not None:
            sides = self.box_head.box(feature_map) * (width, height, width, height)
            prediction.box_xyxy = [round(float(side), 1) for side in sides]
        else:
            prediction.box_xyxy = heatmap_box(prediction.map, photo.size, self.mask_threshold)

    def heatmap(
        self,
        image: str | os.PathLike | Image.Image | np.ndarray,
        class_name: str | None = None,
        heatmap_settings: HeatmapSettings | None = None,
    ) -> Heatmap:
        """Show where the network looks for a class, likely or not.

        Args:
            image: path, PIL image, or (height, width, 3) uint8 RGB.
            class_name: the class; by default the likeliest.
            heatmap_settings: method, layer, scales; by default one pass where the head allows.

        Raises:
            InvalidArgument: no such class, method, layer or scale.
            UnreadableImage, NotFound: the image can't be read.
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
        return Heatmap(self.class_names[index], grid, photo.size, self.mask_threshold, photo.image)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the model folder whole or not at all; timm loads it as `local-dir:PATH`.

        Raises:
            InvalidArgument: the folder exists and is no model.
            OutputError: it can't be written.
        """
        return write_model(self, expand(path))


@dataclass(frozen=True)
class _Way:
    """How one photo is predicted."""

    threshold: float | None
    heatmap_settings: HeatmapSettings
    grid: Grid | None


def load(path: str | os.PathLike, *, engine: str = "auto", dtype: str = "f32") -> Classifier:
    """Load a model folder.

    Args:
        path: the folder.
        engine: where the model runs: "auto", "openvino" or "torch".
        dtype: the type it computes in: "f32" or "bf16".

    Raises:
        NotFound: no such folder.
        InvalidModel: half written, foreign, damaged or of another version.
        BackboneUnavailable: its network can't be built here.
    """
    model = Classifier(**read_model(path))
    model.backbone = replace(model.backbone, engine=engine, dtype=dtype)
    return model
