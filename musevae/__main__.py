"""The `musevae` command, here also for `python -m musevae`, where scripts are not on the path. Written by hand."""

import sys


def main() -> int:
    "Run `musevae.cli.main`; Ctrl-C before that is there gets one line, too."
    try:
        from musevae.cli import main as command
    except KeyboardInterrupt:
        print("musevae: stopped; nothing was begun", file=sys.stderr)
        return 130
    return command()


if __name__ == "__main__":
    raise SystemExit(main())
