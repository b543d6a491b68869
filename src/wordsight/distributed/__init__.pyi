from .ray import Sharded as Sharded
from .ray import clean as clean
from .ray import embed as embed
from .ray import predict as predict
