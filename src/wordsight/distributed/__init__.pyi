from .ray import Sharded as Sharded, clean as clean, embed as embed, predict as predict
