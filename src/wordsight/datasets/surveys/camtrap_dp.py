"""Camera Trap Data Package (Camtrap DP) 1.0.2, the standard of TDWG: a folder of three tables and
datapackage.json.
"""

from __future__ import annotations

import csv
import hashlib
import json
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument, some_of
from ..foreign_tables import read_table
from ..formats.base import numbers, read_json
from .base import HUMAN, VEHICLE, Sighting, Survey, SurveyFormat, SurveyPhoto, register_survey

VERSION = "1.0.2"
HOME = f"https://raw.githubusercontent.com/tdwg/camtrap-dp/{VERSION}"
DEPLOYMENTS = (
    *("deploymentID", "locationID", "locationName", "latitude", "longitude"),
    *("coordinateUncertainty", "deploymentStart", "deploymentEnd", "setupBy", "cameraID"),
    *("cameraModel", "cameraDelay", "cameraHeight", "cameraDepth", "cameraTilt", "cameraHeading"),
    *("detectionDistance", "timestampIssues", "baitUse", "featureType", "habitat"),
    *("deploymentGroups", "deploymentTags", "deploymentComments"),
)
MEDIA = (
    *("mediaID", "deploymentID", "captureMethod", "timestamp", "filePath", "filePublic"),
    *("fileName", "fileMediatype", "exifData", "favorite", "mediaComments"),
)
OBSERVATIONS = (
    *("observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd"),
    *("observationLevel", "observationType", "cameraSetupType", "scientificName", "count"),
    *("lifeStage", "sex", "behavior", "individualID", "individualPositionRadius"),
    *("individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth", "bboxHeight"),
    *("classificationMethod", "classifiedBy", "classificationTimestamp"),
    *("classificationProbability", "observationTags", "observationComments"),
)
# a path that the standard takes: not hidden, and nowhere two dots
_PATH = re.compile(r"(?=^[^./~])(^((?!\.{2}).)*$).*$")
OWN = ("profile", "resources", "created", "spatial", "temporal")  # never taken from a project file
ASKED = ("contributors", "project")  # what only people know
PLACES = (
    "Camtrap DP needs to know where each camera stood. Give a table with --deployments: columns "
    "deploymentID (the camera's folder: {cameras}), latitude and longitude, and whatever else of "
    "the standard's deployments you know."
)
CLOCKS = (
    "Camtrap DP needs times with their zone, and cameras' clocks have none. Give the zone that "
    "they were set to with --timezone, such as +01:00 or Europe/Berlin (with its summer time)."
)


@register_survey
class CamtrapDP(SurveyFormat):
    """deployments.csv (a row a camera), media.csv (a row a photo), observations.csv (by machine: a
    row a box, or a photo without one), datapackage.json.
    """

    name = "Camtrap DP"
    key = "camtrap-dp"
    next_step = (
        "Paths in media.csv are relative to the folder of photos: put these files there to publish "
        "both together."
    )

    def write(self, survey: Survey, folder: Path) -> list[str]:
        """See `SurveyFormat.write`. Photos without a time are left out, and listed."""
        cameras = sorted({photo.camera for photo in survey.photos})
        if survey.deployments is None:
            raise InvalidArgument(PLACES.format(cameras=some_of(cameras)))
        if survey.timezone is None:
            raise InvalidArgument(CLOCKS)
        project = _project(survey.project)
        package = _Package(survey, survey.timezone, _names(project))
        places = _deployments(survey.deployments, package)
        _write(folder / "deployments.csv", DEPLOYMENTS, places)
        _write(folder / "media.csv", MEDIA, package.media())
        _write(folder / "observations.csv", OBSERVATIONS, package.observations())
        described = _described(package, places, project)
        text = json.dumps(described, indent=2, ensure_ascii=False)
        (folder / "datapackage.json").write_text(text + "\n", encoding="utf-8")
        missing = [name for name in ASKED if name not in project]
        if not missing:
            return []
        return [
            f"datapackage.json lacks {' and '.join(missing)}, which the standard asks for and only "
            "you know. Give a JSON with them with --project; docs/how-to/camera-traps.md shows one."
        ]


@dataclass(frozen=True)
class _Package:
    """What the tables tell.

    Attributes:
        survey: all of it.
        zone: of the cameras' clocks.
        names: label, folded -> scientific name.
    """

    survey: Survey
    zone: tzinfo
    names: dict[str, str]

    def __post_init__(self) -> None:
        known = self.survey.skipped
        for photo in self.survey.photos:
            if photo.taken is None:
                known.append((photo.file_name, "it doesn't say when it was taken"))
            elif not _PATH.match(photo.file_name):
                known.append((photo.file_name, "the standard takes no such path"))

    @property
    def photos(self) -> list[SurveyPhoto]:
        """The photos that can be told of."""
        left_out = {name for name, _ in self.survey.skipped}
        return [photo for photo in self.survey.photos if photo.file_name not in left_out]

    def time(self, taken: datetime) -> str:
        """Return a time as the standard writes it, with its zone."""
        return _iso(taken.replace(tzinfo=self.zone))

    def media(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of media.csv."""
        for photo in self.photos:
            assert photo.taken is not None
            kind = mimetypes.guess_type(photo.file_name)[0] or "image/jpeg"
            yield {
                "mediaID": _id(photo),
                "deploymentID": photo.camera,
                "timestamp": self.time(photo.taken),
                "filePath": photo.file_name,
                "filePublic": "false",
                "fileName": photo.file_name.rpartition("/")[2],
                "fileMediatype": kind if kind.startswith("image/") else "image/jpeg",
            }

    def observations(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of observations.csv."""
        for photo in self.photos:
            assert photo.taken is not None
            time = self.time(photo.taken)
            for number, seen in enumerate(self._seen(photo), start=1):
                yield {
                    "observationID": f"{_id(photo)}_{number}",
                    "deploymentID": photo.camera,
                    "mediaID": _id(photo),
                    "eventID": photo.event or "",
                    "eventStart": time,
                    "eventEnd": time,
                    "observationLevel": "media",
                    "classificationMethod": "machine",
                    "classifiedBy": self.survey.made_by,
                    "classificationTimestamp": _iso(self.survey.made_at),
                    **seen,
                }

    def _seen(self, photo: SurveyPhoto) -> list[dict[str, Any]]:
        """Return what is in a photo: its boxes, or its labels where no detector was asked."""
        if photo.status == "empty":
            return [{"observationType": "blank"}]
        if photo.sightings is not None:
            return [self._boxed(one) for one in photo.counted]
        if not photo.labels:
            return [{"observationType": "unknown" if photo.status == "unsure" else "unclassified"}]
        return [
            {"observationType": _kind(label), **self._named(label, probability)}
            for label, probability in photo.labels
        ]

    def _boxed(self, one: Sighting) -> dict[str, Any]:
        box = zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), one.bbox, strict=True)
        said = self._named(one.label, one.probability) if one.category != one.label else {}
        return {
            "observationType": _kind(one.category),
            "count": 1,
            **dict(box),
            "classificationProbability": round(one.confidence, 6),
            **said,
        }

    def _named(self, label: str | None, probability: float | None) -> dict[str, Any]:
        """Return the label's scientific name where it is known, else a tag."""
        if label is None:
            return {}
        known = self.names.get(label.casefold())
        sure = {} if probability is None else {"classificationProbability": round(probability, 6)}
        tag = {"observationTags": f"label:{label.replace('|', '/')}"}
        return {**sure, **tag, **({} if known is None else {"scientificName": known})}


def _kind(category: str) -> str:
    """Return the observation type of a detector's category, or of a label."""
    name = category.casefold()
    return "human" if name in HUMAN else "vehicle" if name in VEHICLE else "animal"


def _id(photo: SurveyPhoto) -> str:
    return hashlib.sha256(os.fsencode(photo.file_name)).hexdigest()[:16]


def _iso(time: datetime) -> str:
    if time.utcoffset() == timedelta(0):
        return f"{time:%Y-%m-%dT%H:%M:%S}Z"
    return time.isoformat(timespec="seconds")


def _write(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="replace") as file:
        table = csv.DictWriter(file, columns, restval="")
        table.writeheader()
        table.writerows(rows)


def _deployments(file: Path, package: _Package) -> list[dict[str, Any]]:
    """Return a row for each camera from a person's table; its start and end are those of its
    photos, unless the table says.

    Raises:
        InvalidArgument: if a camera or its place is missing, or a place is none.
    """
    rows = read_table(file)
    known = {name.casefold(): name for name in DEPLOYMENTS}
    headings = [known.get(cell.strip().casefold(), "") for cell in next(rows, [])]
    found = {}
    for cells in rows:
        row = {name: cell.strip() for name, cell in zip(headings, cells, strict=False) if name}
        if row.get("deploymentID"):
            found[row["deploymentID"].replace("\\", "/").strip("/")] = row
    times: dict[str, list[datetime]] = {}
    for photo in package.photos:
        assert photo.taken is not None
        times.setdefault(photo.camera, []).append(photo.taken)
    missing = [camera for camera in sorted(times) if camera not in found]
    if missing:
        raise InvalidArgument(
            f"'{file}' has no row for {some_of(missing)} in its column deploymentID. It needs one "
            "for each camera's folder, with latitude and longitude."
        )
    return [_deployment(file, camera, found[camera], times[camera], package) for camera in times]


def _deployment(
    file: Path, camera: str, row: dict[str, str], times: list[datetime], package: _Package
) -> dict[str, Any]:
    place = numbers(*(row.get(name, "").replace(",", ".") for name in ("latitude", "longitude")))
    if place is None or not (abs(place[0]) <= 90 and abs(place[1]) <= 180):
        raise InvalidArgument(
            f"'{file}' says no latitude (-90 to 90) and longitude (-180 to 180) of '{camera}', but "
            f"'{row.get('latitude', '')}' and '{row.get('longitude', '')}'."
        )
    return {
        **row,
        "deploymentID": camera,
        "latitude": place[0],
        "longitude": place[1],
        "deploymentStart": row.get("deploymentStart") or package.time(min(times)),
        "deploymentEnd": row.get("deploymentEnd") or package.time(max(times)),
    }


def _project(file: Path | None) -> dict[str, Any]:
    """Return what a person's JSON says of the project.

    Raises:
        InvalidArgument: if it is no object.
    """
    content = {} if file is None else read_json(file)
    if not isinstance(content, dict):
        raise InvalidArgument(f"'{file}' must hold an object, as datapackage.json does.")
    return {name: value for name, value in content.items() if name not in OWN}


def _names(project: dict[str, Any]) -> dict[str, str]:
    """Return the scientific names that a project's `taxonomic` gives, by any name it has there."""
    names = {}
    listed = project.get("taxonomic")
    for taxon in listed if isinstance(listed, list) else []:
        if isinstance(taxon, dict) and isinstance(taxon.get("scientificName"), str):
            vernacular = taxon.get("vernacularNames")
            others = vernacular.values() if isinstance(vernacular, dict) else ()
            for name in (taxon["scientificName"], *others):
                names[str(name).casefold()] = taxon["scientificName"]
    return names


def _described(
    package: _Package, places: list[dict[str, Any]], project: dict[str, Any]
) -> dict[str, Any]:
    """Return datapackage.json."""
    longitudes = [row["longitude"] for row in places]
    latitudes = [row["latitude"] for row in places]
    west, east = min(longitudes), max(longitudes)
    south, north = min(latitudes), max(latitudes)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    resources = [
        {
            "name": name,
            "path": f"{name}.csv",
            "profile": "tabular-data-resource",
            "format": "csv",
            "mediatype": "text/csv",
            "encoding": "utf-8",
            "schema": f"{HOME}/{name}-table-schema.json",
        }
        for name in ("deployments", "media", "observations")
    ]
    return {
        "resources": resources,
        "profile": f"{HOME}/camtrap-dp-profile.json",
        "created": _iso(datetime.now(timezone.utc)),
        **({"taxonomic": []} | project),
        "spatial": {"type": "Polygon", "bbox": [west, south, east, north], "coordinates": [ring]},
        "temporal": {
            "start": min(str(row["deploymentStart"])[:10] for row in places),
            "end": max(str(row["deploymentEnd"])[:10] for row in places),
        },
    }
