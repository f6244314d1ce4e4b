"""Image regression: one number for each image."""

from tledge.tasks._image import *
from tledge.tasks._regression import *
