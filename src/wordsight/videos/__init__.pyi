from .frames import Extraction as Extraction, extract as extract
from .labelling import VideoDrawing as VideoDrawing, video as video
from .recorder import Video as Video
