"""Start the HTTP server on port 9874; its settings are DEXPRESSION_* variables, see docs/operations.md."""

import sys

from dexpression.__main__ import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
