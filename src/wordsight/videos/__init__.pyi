from .frames import Extraction as Extraction
from .frames import extract as extract
from .labelling import video as video
from .recorder import Video as Video
