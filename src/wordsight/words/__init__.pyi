from .vocabulary import Sense as Sense, resolve as resolve, senses as senses
