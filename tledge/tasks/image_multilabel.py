"""Multi-label image classification: each image has any number of labels, none included."""

from tledge.tasks._image import *
from tledge.tasks._multi_label import *
