"""What camera-trap tools load: one small file each. They tell of photos and don't bring them along.

To add one, write a module here with a subclass of `SurveyFormat` under `@register_survey`; nothing
else needs to change.
"""

from __future__ import annotations

from ...core.plugins import import_all
from .base import (
    Sighting,
    Survey,
    SurveyFormat,
    SurveyPhoto,
    camera_of,
    find_survey,
    list_survey_keys,
    register_survey,
)

import_all(__name__, list(__path__), first=("base",))

__all__ = [
    "Sighting",
    "Survey",
    "SurveyFormat",
    "SurveyPhoto",
    "camera_of",
    "find_survey",
    "list_survey_keys",
    "register_survey",
]
