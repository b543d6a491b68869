from .session import Teaching as Teaching, teach as teach
from .status import Question as Question, Status as Status
