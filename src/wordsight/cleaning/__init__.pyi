from .checks import (
    Finding as Finding,
    Material as Material,
    list_checks as list_checks,
    register_check as register_check,
)
from .cleaner import Cleaning as Cleaning, clean as clean
from .setting_aside import undo as undo
from .splitting import split as split
