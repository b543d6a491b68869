"""Predict many photos with a model: decide, locate, draw, report."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..backbones.embedder import EncodedImage
from ..backbones.runtime import callers
from ..core.progress import Progress, or_notebook, parse_duration
from ..datasets.files import RESULT_FOLDERS, ImageFile
from ..datasets.work import Photos, find_photos, over_images, refuse_none_readable
from ..errors import UnreadableImage
from ..heatmaps.grid import Grid, part_embeddings
from ..heatmaps.heatmap import HeatmapSettings
from ..heatmaps.one_pass import class_heatmap
from ..images.decoding import Photo
from ..images.taken import grouped, time_of, times_of, told_time
from ..reports.corrections import corrections_of
from ..reports.sections import made_by
from .classifier import Classifier, load
from .events import EVENT_FIELDS, EVENTS, Event, EventPool
from .model_sections import about_model
from .predictions import EMPTY, Counts, Part, Prediction
from .report import ResultsReport
from .results import Results
from .results_writer import ResultsWriter


def predict(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    model: str | os.PathLike | Classifier,
    *,
    output: str | os.PathLike | None = "results",
    threshold: float | None = None,
    precision: float | None = None,
    roll_up: str | Iterable[str] | None = None,
    heatmap_settings: HeatmapSettings | None = None,
    grid: Grid | None = None,
    draw: bool = True,
    events: str | float | None = None,
    progress: Progress | None = None,
) -> Results:
    """Predict what each photo shows, and give no label where that isn't sure.

    Args:
        photos: folders, files or globs.
        model: model folder, or what `load` returned.
        output: folder for tables, originals, heat maps, masks and report.html; None writes nothing.
        threshold: calibrated probability from which a label is given, 0–1; default: the model's,
            0.99. A model whose promise the images could not support gives no label without one.
        precision: instead of a threshold, the share of labels that must be right; see
            `Classifier.promise`.
        roll_up: "canine,feline" or a list: words that WordNet has above two or more of the classes.
            Where no class is sure enough, the narrowest of them that is becomes the label, by the
            sum of the probabilities of its classes. No precision can be promised with it.
        heatmap_settings: how heat maps are made; by default in one pass.
        grid: look at quarters (or other parts) of each photo, too, and let the surest answer.
        draw: False writes tables only.
        events: "60s", "2m" or seconds: photos of one folder that were taken at most so long one
            after another are an event, which gets one answer, in events.csv.
        progress: called with (done, total, "photos").

    Raises:
        NotFound: if there is nothing to predict, or no such model.
        InvalidArgument: if the threshold is out of range, both it and a precision are given, a word
            of `roll_up` is above fewer than two classes, or not one photo can be read.
        OutputError: if the results can't be written.
    """
    classifier = (model if isinstance(model, Classifier) else load(model)).rolling_up(roll_up)
    settings = heatmap_settings or HeatmapSettings()
    settings.check(classifier.backbone)
    if grid is not None:
        grid.check(classifier.backbone)
    chosen, note = classifier.threshold_for(threshold, precision)
    found = find_photos(photos, output, RESULT_FOLDERS)
    pool = event_pool(classifier, chosen, found.images, events, or_notebook(progress))
    run = Run(classifier, chosen, settings, grid, found, draw, note, pool=pool)
    return over(run, found, progress)


def event_pool(
    model: Classifier,
    threshold: float | None,
    images: Sequence[ImageFile],
    events: str | float | None,
    progress: Progress | None,
) -> EventPool | None:
    """Return what pools the photos of each event, or None where events aren't asked for.

    Raises:
        InvalidArgument: if `events` is no time.
    """
    if events is None:
        return None
    gap = parse_duration(str(events), "--events")
    times = times_of([image.path for image in images], progress)
    numbers = grouped([image.path.parent for image in images], times, gap) + 1
    none = [model.class_names[i] for i in (model.catch_all, model.nothing) if i is not None]
    names = [image.name for image in images]
    named = dict(zip(names, numbers.tolist(), strict=True))
    power = model.record.event_power or 1.0
    parents = {word: [model.class_names[i] for i in below] for word, below in model.roll_up.items()}
    taken = dict(zip(names, times, strict=True))
    return EventPool(named, model.class_names, threshold, power, none, parents, taken)


def predict_around(
    photos: str | os.PathLike,
    model: Classifier,
    known: Mapping[str, Sequence[str]],
    output: str | os.PathLike | None,
    draw: bool = True,
    progress: Progress | None = None,
) -> Results:
    """Predict as `predict` does, but for photos whose labels a person has given: these have them.

    Args:
        photos: one folder.
        model: whose own threshold decides.
        known: file name -> its classes, none for "none of these".
        output: as in `predict`.
        draw: as in `predict`.
        progress: as in `predict`.
    """
    chosen, note = model.threshold_for()
    found = find_photos(photos, output, RESULT_FOLDERS)
    run = Run(model, chosen, None, None, found, draw, note)
    run.known = known
    return over(run, found, progress)


def over(run: Run, found: Photos, progress: Progress | None) -> Results:
    """Predict all photos of a run."""
    classifier, chosen, note = run.model, run.threshold, run.note
    threads = callers(classifier.embedder.engine)
    over_images(run.predict, found.images, run, threads=threads, progress=or_notebook(progress))
    refuse_none_readable(run.counts.unreadable, run.counts.total, found.output)
    return Results(
        class_names=run.class_names,
        threshold=chosen,
        counts=run.counts,
        skipped=found.skipped,
        unreadable=run.counts.unreadable,
        model=classifier.record.path,
        output=found.output,
        copied_bytes=None if run.writer is None else run.writer.copied_bytes,
        note=note,
        events=run.events,
        _kept=run.kept,
    )


class Run:
    """One run of `predict`: predicts images, and takes what comes of each.

    Attributes:
        class_names: what labels may be: the model's classes, and others.
        counts: how many fared how so far.
        kept: predictions that are written nowhere.
        writer: of the results folder, or None.
        report: of the results folder, or None.
        events: what the photos of each event show together, once it is finished.
        known: file name -> classes that a person has given, none for "none of these".
    """

    def __init__(
        self,
        model: Classifier,
        threshold: float | None,
        settings: HeatmapSettings | None = None,
        grid: Grid | None = None,
        photos: Photos | None = None,
        draw: bool = False,
        note: str | None = None,
        names: Sequence[str] = (),
        files: Sequence[str] = (),
        boxes: bool = False,
        pool: EventPool | None = None,
    ) -> None:
        """Open a run.

        Args:
            names: labels beside the model's classes.
            files: names of further files that it writes.
            boxes: whether a detector's boxes are given, so that images may be empty.
            pool: what pools the photos of each event, or None.
        """
        self.events = list[Event]()
        self._pool = pool
        self.counts, self.kept = Counts(), list[Prediction]()
        self.class_names = list(dict.fromkeys([*model.class_names, *model.roll_up, *names]))
        self.known: Mapping[str, Sequence[str]] = {}
        self.writer: ResultsWriter | None = None
        self.model, self.threshold, self._grid, self.note = model, threshold, grid, note
        self._settings = settings or HeatmapSettings()
        self.report: ResultsReport | None = None
        self._folder = folder = None if photos is None else photos.output
        if photos is not None:
            self.counts.skipped = photos.skipped
        if photos is None or folder is None:
            return
        self.writer = ResultsWriter(
            folder,
            self.class_names,
            draw,
            grid is not None,
            photos.sources,
            photos.skipped,
            [*files, *[EVENTS] * (pool is not None)],
        )
        if draw:
            try:
                shown = [*self.class_names, *[EMPTY] * boxes]
                # labels of crops aren't those of whole photos
                corrections = (
                    None
                    if boxes
                    else corrections_of(
                        photos, model.class_names, model.record.data_fingerprint is not None
                    )
                )
                self.report = ResultsReport(folder, shown, threshold, corrections)
            except BaseException:  # Ctrl-C too: a lock that is kept would refuse the next run
                self.writer.close()
                raise

    def predict(self, file: ImageFile) -> Prediction:
        """Predict one image, draw it and keep it for the report. Safe from many threads."""
        model = self.model
        try:
            one = model.embedder.open(file, feature_map=True)
            prediction = model.decide_photo(
                file.name, one.embedding, lambda: one.feature_map, self.threshold
            )
            if self._grid is not None:
                prediction = self._surest_part(prediction, one, self._grid)
            if file.name in self.known:
                prediction.take(self.known[file.name])
            prediction.remark = one.remark
            prediction.taken_at, prediction.time_source = self.told_time(file, one.data)
            if prediction.label is None and self.report is None:
                return prediction
            photo = one.photo
        except UnreadableImage as error:
            return Prediction(file.name, error=str(error))
        heat = None
        if prediction.label is not None:
            needed = one.encoding if model.needs_map(self._settings) else None
            model.localize(prediction, photo, needed, self._settings)
            heat = prediction.map
        elif one.feature_map is not None and not prediction.stranger:
            # of a stranger, where the best guess comes from says nothing
            index = model.class_names.index(str(prediction.top_label))
            heat = class_heatmap(one.feature_map, model.head.weight[index])
        self.show(prediction, file, photo, heat)
        return prediction

    def told_time(self, file: ImageFile, data: bytes) -> tuple[str | None, str | None]:
        """Return when a photo was taken, and who says so; where events are pooled, its time is
        known already.
        """
        known = {} if self._pool is None else self._pool.times
        time = known[file.name] if file.name in known else time_of(data)
        return told_time(file.path, time)

    def show(
        self, prediction: Prediction, file: ImageFile, photo: Photo, heat: np.ndarray | None
    ) -> None:
        """Draw a prediction and keep it for the report, as far as this run does. Safe from many
        threads.
        """
        if self.writer is not None:
            self.writer.draw(prediction, file, photo.image, photo.size, self.model.mask_threshold)
            prediction.without_maps()
        if self.report is not None:
            self.report.keep(prediction, photo.image, photo.size, heat)

    def _surest_part(self, whole: Prediction, one: EncodedImage, grid: Grid) -> Prediction:
        """Return the prediction of the whole or of its surest part, with all parts noted."""
        model = self.model
        catch_all = None if model.catch_all is None else model.class_names[model.catch_all]
        best = whole

        def sureness(one: Prediction) -> tuple[bool, float]:
            return not one.rolled_up, float(one.probability or 0)

        for box, embedding in part_embeddings(one.photo, model.embedder, grid, one.feature_map):
            part = model.decide(whole.file_name, embedding, self.threshold)
            probability = float(part.probability or 0)
            whole.parts.append(
                Part(box, part.label, str(part.top_label), probability, part.stranger)
            )
            surer = best.label in (None, catch_all) or sureness(part) > sureness(best)
            # that a part shows nothing says little of the whole
            if part.label not in (None, catch_all) and surer:
                best, best.part = part, box
        best.parts = whole.parts
        return best

    def add(self, prediction: Prediction) -> None:
        """Count a prediction, and write it or keep it."""
        self.counts.add(prediction)
        if self._pool is not None:
            self._pool.add(prediction)
        if self.writer is None:
            self.kept.append(prediction)
        else:
            self.writer.add(prediction)

    def finish(self) -> None:
        """Write the report, and put everything in place."""
        if self._pool is not None:
            self.events = self._pool.events()
        if self.writer is None:
            return
        if self._pool is not None:
            rows = (vars(event) | {"labels": json.dumps(event.labels)} for event in self.events)
            self.writer.write_table(
                EVENTS, [EVENT_FIELDS, *([row[name] for name in EVENT_FIELDS] for row in rows)]
            )
        if self.report is not None:
            model = self.model
            about = about_model(model.record, model.history, model.class_names)
            made = made_by(model.backbone.name, model.class_names)
            self.writer.write_report(self.report.pages(self.counts, about, made, self.note))
        self.writer.finish()

    def close(self) -> None:
        """Keep the embeddings, drop what is unfinished, and let others write here."""
        with contextlib.ExitStack() as held:
            if self.writer is not None:
                held.callback(self.writer.close)
            if self.report is not None:
                held.callback(self.report.close)
            self.model.embedder.cache.flush()
