from .maps import phrase_map as phrase_map
from .preparing import Prepared as Prepared, prepare as prepare
from .ranking import Ranking as Ranking, rank as rank
from .tower import TextImageTower as TextImageTower, Tower as Tower, open_tower as open_tower
