"""`python -m musevae`: the command of musevae.cli, where scripts are not on the path. Written by hand."""

from musevae.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
