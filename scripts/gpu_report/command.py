"""The command line."""

import argparse
import json
import os
import re
import sys

from .plot import roofline
from .results import Problem, Results
from .tables import document, markdown


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise Problem(f"{path}: {error}") from error


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(path)


def run(args):
    results = Results([load(path) for path in args.reports], [load(args.peers)] if args.peers else [])
    slug = re.sub(r"[^a-z0-9]+", "-", results.device["name"].lower()).strip("-")
    picture = os.path.join(args.docs, f"gpu-{slug}.svg")
    # All outputs are computed before the first is written.
    svg = roofline(results)
    text = markdown(results, os.path.relpath(picture, args.results))
    write(picture, svg)
    write(os.path.join(args.results, f"gpu-{slug}.md"), text)
    write(os.path.join(args.results, f"gpu-{slug}.json"), document(results))


def main(description):
    """Runs the command."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    parser.add_argument("reports", metavar="REPORT", nargs="+")
    parser.add_argument("--peers", metavar="FILE")
    parser.add_argument("--results", metavar="FOLDER", default=os.path.relpath(os.path.join(root, "docs/results")))
    parser.add_argument("--docs", metavar="FOLDER", default=os.path.relpath(os.path.join(root, "docs")))
    try:
        run(parser.parse_args())
    except Problem as problem:
        sys.exit(str(problem))
