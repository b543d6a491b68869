from .vocabulary import Sense as Sense
from .vocabulary import resolve as resolve
from .vocabulary import senses as senses
