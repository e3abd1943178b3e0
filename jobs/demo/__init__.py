"""The demo: draws a lake of images, plants trouble in it, and judges what a run has found."""
