from .matches import Match as Match, Matches as Matches
from .search import find as find
