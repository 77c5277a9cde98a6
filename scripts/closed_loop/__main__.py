"""The commands of scripts/closed-loop."""

import argparse
import sys
import unittest
from pathlib import Path

from . import analyze, perturb, run, smoke
from .server import ServerError


def main() -> int:
    """Runs the command of the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/closed-loop")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module, summary in (
        ("run", run, "play all missing episodes"),
        ("perturb", perturb, "perturb single steps"),
        ("analyze", analyze, "make tables and a picture"),
        ("smoke", smoke, "check simulator and server in short"),
    ):
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_options(command)
        command.set_defaults(execute=module.run)
    commands.add_parser("test", help="run the tests of the analysis").set_defaults(execute=test)
    options = parser.parse_args()
    try:
        options.execute(options)
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on", file=sys.stderr)
        return 130
    except (run.Usage, ServerError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def test(_: argparse.Namespace) -> None:
    """Runs the tests of this package. Exits."""
    folder = Path(__file__).parent
    suite = unittest.defaultTestLoader.discover(str(folder / "tests"), top_level_dir=str(folder.parent))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    sys.exit(main())
