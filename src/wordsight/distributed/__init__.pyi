from .outcome import Sharded as Sharded
from .ray import clean as clean, embed as embed, predict as predict
