"""A CSV that Timelapse imports: a row a photo."""

from __future__ import annotations

import csv
from pathlib import Path

from .base import Survey, SurveyFormat, SurveyPhoto, register_survey

COLUMNS = (
    *("File", "RelativePath", "DateTime", "Species", "Confidence", "Count"),
    *("Status", "Event"),
)


@register_survey
class Timelapse(SurveyFormat):
    r"""timelapse.csv. File and RelativePath (with `\` between folders) name the photo below
    Timelapse's root folder; the other columns fill the fields of those data labels.
    """

    name = "Timelapse"
    key = "timelapse"
    next_step = (
        "In Timelapse: File, Import data from a CSV file. The root folder is the folder of photos, "
        "and the template needs fields with the data labels Species, Confidence, Count and Status; "
        "columns without a field can be deleted."
    )

    def write(self, survey: Survey, folder: Path) -> list[str]:
        """See `SurveyFormat.write`."""
        path = folder / "timelapse.csv"
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            rows.writerows(_row(photo) for photo in survey.photos)
        timeless = sum(photo.taken is None for photo in survey.photos)
        if not timeless:
            return []
        return [f"{timeless} photos don't say when they were taken: their DateTime is empty."]


def _row(photo: SurveyPhoto) -> list[object]:
    parent, _, name = photo.file_name.rpartition("/")
    label, probability = photo.labels[0] if photo.labels else ("", None)
    return [
        name,
        parent.replace("/", "\\"),
        "" if photo.taken is None else f"{photo.taken:%Y-%m-%d %H:%M:%S}",
        label,
        "" if probability is None else round(probability, 4),
        "" if photo.sightings is None else _count(photo, label),
        photo.status,
        photo.event or "",
    ]


def _count(photo: SurveyPhoto, label: str) -> int:
    """Return how many boxes show a photo's label, or without one, how many there are."""
    return sum(not label or one.label == label for one in photo.counted)
