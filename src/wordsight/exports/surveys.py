"""Write results of camera traps for the tools that people of this field use; photos stay where they
are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

from .. import __version__
from ..core.home import expand, writing
from ..core.progress import Progress
from ..core.tables import BOXES, noted_photos
from ..core.threads import map_if_worth
from ..datasets.files import ImageFile
from ..datasets.surveys import Sighting, Survey, SurveyFormat, SurveyPhoto
from ..errors import InvalidArgument, NotFound
from ..images.taken import taken_at
from .label_folder import new_labels
from .labels import Prelabels, SurveyRequest, capture_of
from .result_tables import find_table, photos_of, read_rows

TABLE = "predictions.jsonl"
THREADS = 4
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")


def write_survey(
    format: SurveyFormat, request: SurveyRequest, progress: Progress | None
) -> Prelabels:
    """Write results of `run` or `predict` in a format of camera traps.

    Raises:
        NotFound: if there are no such results, or a file given isn't there.
        InvalidArgument: if the format lacks something, or the folder is not ours.
        OutputError: if it can't be written.
    """
    table = find_table(expand(request.results), (TABLE,))
    target = table.parent / "prelabels" / format.key
    if request.output is not None:
        target = expand(request.output)
    zone = None if request.timezone is None else read_zone(request.timezone)
    told = list(read_rows(table, lambda row: _photo(row, request.all)))
    photos = [one for one in told if isinstance(one, SurveyPhoto)]
    if format.needs_times:
        photos = list(_with_times(photos, photos_of(table, request.photos), progress))
    survey = Survey(
        photos,
        _class_names(photos),
        f"wordsight {__version__}",
        datetime.fromtimestamp(int(table.stat().st_mtime), timezone.utc),
        _detector(table, request.boxes),
        _given(request.deployments, "--deployments"),
        _given(request.project, "--project"),
        zone,
        [one for one in told if isinstance(one, tuple)],
    )
    with new_labels(target) as hidden, writing(target):
        lacks = format.write(survey, hidden)
    left_out = {name for name, _ in survey.skipped}
    written = [one for one in photos if one.file_name not in left_out]
    return Prelabels(
        format.key,
        target,
        len(written),
        sum(len(one.counted) for one in written),
        survey.class_names,
        0,
        survey.skipped,
        None,
        lacks,
        format.next_step,
    )


def read_zone(text: str) -> tzinfo:
    """Return a time zone by its offset ("+01:00", "Z") or its name ("Europe/Berlin").

    Raises:
        InvalidArgument: if there is none.
    """
    import zoneinfo

    if text.strip().upper() in ("Z", "UTC"):
        return timezone.utc
    offset = _OFFSET.fullmatch(text.strip())
    try:
        if offset:
            span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
            return timezone(-span if offset[1] == "-" else span)
        return zoneinfo.ZoneInfo(text.strip())
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise InvalidArgument(
            f"No time zone '{text}' is known here. Give an offset, such as +01:00, or a name, such "
            "as Europe/Berlin."
        ) from None


def _given(path: object, option: str) -> Path | None:
    """Return a file that was given.

    Raises:
        NotFound: if it isn't there.
    """
    if path is None:
        return None
    file = expand(str(path))
    if not file.is_file():
        raise NotFound(f"No such file: '{path}' ({option}).")
    return file


def _detector(table: Path, given: object) -> Path | None:
    """Return the detector's file: the one given, or the one that the results were made with; None
    where they were made without.

    Raises:
        NotFound: if it isn't there.
    """
    noted = noted_photos(table.parent, BOXES)
    if given is not None:
        return _given(given, "--boxes")
    if not noted:
        return None
    if not Path(noted[0]).is_file():
        raise NotFound(f"'{noted[0]}' is not there any more. Say where it is with --boxes.")
    return Path(noted[0])


def _photo(row: dict, everything: bool) -> SurveyPhoto | tuple[str, str]:
    """Return what a row says of a photo, or its name and why it could not be read."""
    name = str(row["file_name"])
    if row["error"] is not None:
        return name, str(row["error"])
    label = row["label"]
    labels = row.get("labels") or ([] if label is None else [row])
    named = [(str(one["label"]), float(one["probability"])) for one in labels]
    guess = row["top_label"] if everything and row["probability"] is not None else None
    if not named and guess is not None:
        named = [(str(guess), float(row["probability"]))]
    crops = row.get("crops")
    capture = capture_of(row)
    status = "labelled" if label else "none_of_these" if row["probability"] is None else "unsure"
    return SurveyPhoto(
        name,
        str(row.get("status") or status),
        tuple(named),
        None if capture is None else capture.taken,
        None if capture is None else capture.sequence,
        None if crops is None else tuple(_sighting(one, everything) for one in crops),
        row.get("detected_as"),
    )


def _sighting(crop: dict, everything: bool) -> Sighting:
    sure = crop["probability"]
    guess = crop["top_label"] if everything and sure is not None else None
    label = guess if crop["label"] is None else crop["label"]
    x, y, width, height = (float(side) for side in crop["bbox"])
    return Sighting(
        int(crop["detection"]),
        str(crop["category"]),
        float(crop["confidence"]),
        (x, y, width, height),
        None if label is None else str(label),
        None if label is None or sure is None else float(sure),
        crop["status"] == "set_aside",
    )


def _with_times(
    photos: list[SurveyPhoto], places: dict[str, ImageFile], progress: Progress | None
) -> Iterator[SurveyPhoto]:
    """Yield photos with when they were taken, as the tables or they themselves say."""

    def timed(photo: SurveyPhoto) -> SurveyPhoto:
        place = places.get(photo.file_name)
        if photo.taken is not None or place is None:
            return photo
        return replace(photo, taken=taken_at(place.path))

    for done, photo in enumerate(map_if_worth(timed, photos, THREADS), start=1):
        yield photo
        if progress:
            progress(done, len(photos), "times read")


def _class_names(photos: list[SurveyPhoto]) -> list[str]:
    """Return every label of photos and boxes, sorted; a detector's own categories are none."""
    names = {label for photo in photos if photo.sightings is None for label, _ in photo.labels}
    names |= {
        one.label
        for photo in photos
        for one in photo.counted
        if one.label is not None and one.label != one.category
    }
    return sorted(names)
