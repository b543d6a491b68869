from .session import Question as Question, Status as Status, Teaching as Teaching, teach as teach
