from .collector import gather as gather
from .funnel import Gathered as Gathered
from .request import GatherSettings as GatherSettings
from .sources import (
    Candidate as Candidate,
    FakeSource as FakeSource,
    Query as Query,
    SearchPage as SearchPage,
    Source as Source,
    list_sources as list_sources,
    register_source as register_source,
)
