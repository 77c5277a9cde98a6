"""The results as Markdown and as JSON."""

import json

from .results import PEERS


def number(value, digits=2):
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"


def percent(value):
    return f"{value * 100:.0f} %"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def by_case(rows):
    """Yields a row of each case, and the rows of the case, one per peer."""
    for at in range(0, len(rows), len(PEERS)):
        yield rows[at], rows[at : at + len(PEERS)]


def peer_cells(peers):
    return [cell for row in peers for cell in (number(row["peer_us"]), number(row["ratio"]))]


def limits_line(limits):
    return (
        "- L2: copies {l2_copy}, weights of a GEMM {l2} GB/s ({l2_sm} bytes a clock and SM); "
        "smallest GEMM in a graph: {launch} us, {dependent} us with dependent launch".format(
            l2_copy=number(limits["l2_copy_gb_per_s"], 0),
            l2=number(limits["l2_gb_per_s"], 0),
            l2_sm=number(limits["l2_bytes_a_clock_and_sm"], 1),
            launch=number(limits["launch_us"]),
            dependent=number(limits["dependent_launch_us"]),
        )
    )


def rescale_table(rows):
    """Returns the times with groups of 128 beside those of two-level weights and with a scale per channel."""
    header = ["M", "N x K", "width", "x", "g128 us", "two-level us", "channel us", "g128 / channel"]
    cells = [
        [
            str(row["m"]),
            f"{row['n']} x {row['k']}",
            row["width"],
            row["x"],
            number(row["g128_us"]),
            "-" if row.get("two_level_us") is None else number(row["two_level_us"]),
            number(row["per_channel_us"]),
            number(row["ratio"], 3),
        ]
        for row in rows
    ]
    return ["## Groups of 128 beside two-level weights and a scale per channel", "", *table(header, cells)]


def markdown(results, picture):
    facts = results.facts()
    peer_header = [cell for name in PEERS for cell in (f"{name} us", "ratio")]
    lines = [f"# w4ax on {facts['device']}", ""]
    for name in ("date", "driver", "driver_cuda", "nvcc", "built_for", "torch", "runs"):
        lines.append(f"- {name.replace('_', ' ')}: {facts[name] or 'unknown'}")
    lines.append(f"- kit: {json.dumps(facts['kit'])}")
    lines.append("- tests: {passed} passed, {failed} failed, {not_run} did not run".format(**facts["tests"]))
    lines.extend(f"- clocks: {json.dumps(clocks)}" for clocks in facts["clocks"])
    lines.append(f"- copies within the device: {facts['copy_gb_per_s']:.0f} GB/s, bytes read and written")
    lines.extend(limits_line(limits) for limits in facts["limits"])
    lines.extend(f"- **{name} was not measured, or not completely: {why}**" for name, why in facts["absent"].items())
    lines += [
        "",
        "us: median of the replays of a graph of many calls, per call, with weights that are in no cache.",
        "spread: difference of the maximum and the minimum over all runs, divided by the median.",
        "of copy: bandwidth of the bytes that must move, divided by that of a copy.",
        "ratio: the peer's time divided by ours; above 1, w4ax is faster.",
        "Weights are INT4 at every width; BF16 is W4A16.",
        "",
        f"![Roofline]({picture})",
        "",
    ]
    if results.chain:
        lines += ["## The GEMMs of a decode in one graph", ""]
        header = ["layers", "M", "width", "groups", "launches", "us", "spread", "GB/s", "of copy"]
        header += peer_header
        lines += table(
            header,
            [
                [
                    str(row["layers"]),
                    str(row["m"]),
                    row["width"],
                    row["grouping"],
                    "dependent" if row["pdl"] else "serial",
                    number(row["us"]),
                    percent(row["spread"]),
                    number(row["gbps"], 0),
                    percent(row["share_of_copy"]),
                    *peer_cells(peers),
                ]
                for row, peers in by_case(results.chain)
            ],
        )
    else:
        lines += ["The GEMMs of a decode in one graph were not measured.", ""]
    header = ["N x K", "width", "groups", "x", "kernel", "mma", "us", "spread", "GB/s", "of copy", "TOP/s"]
    header += peer_header
    for m in sorted({row["m"] for row in results.rows}):
        lines += [f"## M = {m}", ""]
        lines += table(
            header,
            [
                [
                    f"{row['n']} x {row['k']}",
                    row["width"],
                    row["grouping"],
                    row["x"],
                    ("quantize_pack + " if row["launches"] > 1 else "") + row["kernel"],
                    row["mma"] or "-",
                    number(row["us"]),
                    percent(row["spread"]),
                    number(row["gbps"], 0),
                    percent(row["share_of_copy"]),
                    number(row["tops"], 1),
                    *peer_cells(peers),
                ]
                for row, peers in by_case(results.rows)
                if row["m"] == m
            ],
        )
    if facts["rescale"]:
        lines += rescale_table(facts["rescale"])
    return "\n".join(lines)


def document(results):
    """Returns all results as JSON with one row per line."""
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in results.facts().items()]
    for name, rows in (("rows", results.rows), ("chain", results.chain)):
        parts.append(f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"
