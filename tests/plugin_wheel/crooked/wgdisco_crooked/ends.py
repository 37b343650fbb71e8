"""Ends the program that imports it, if it is let."""

import sys

sys.exit("crooked: no licence")
