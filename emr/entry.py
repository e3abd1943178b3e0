"""The script that spark-submit is given on a cluster: the command line of imagesieve, from the zip of --py-files."""

import sys

from jobs.command import main

if __name__ == "__main__":
    sys.exit(main())
