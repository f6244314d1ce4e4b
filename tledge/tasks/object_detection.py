"""Object detection: boxes around the objects of an image, each with one label."""

from tledge.tasks._boxes import *
from tledge.tasks._detected import *
