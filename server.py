"""Settings -> predictor -> app -> port 9874. Every knob is a DEXPRESSION_* variable; see dexpression/settings.py."""

import sys

from dexpression.__main__ import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
