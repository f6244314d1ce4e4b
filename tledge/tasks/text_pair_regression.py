"""One number for two texts together, such as how alike they are."""

from tledge.tasks._regression import *
from tledge.tasks._text_pair import *
