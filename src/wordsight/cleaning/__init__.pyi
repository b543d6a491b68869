from .checks import Finding as Finding
from .checks import Material as Material
from .checks import list_checks as list_checks
from .checks import register_check as register_check
from .cleaner import Cleaning as Cleaning
from .cleaner import clean as clean
from .cleaner import undo as undo
from .splitting import split as split
