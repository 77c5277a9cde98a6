"""The figures of several reports of kits, joined by case."""

import statistics

PEERS = ["cuBLAS BF16", "torch int4"]
# The benches whose rows are GEMMs.
GEMM_BENCHES = ["decode", "prefill"]
# The benches that measure the limits of the device.
LIMITED_BENCHES = ["bandwidth", "decode", "prefill", "chain"]


class Problem(Exception):
    pass


def joined(figures):
    """Returns the figure of several runs. A figure has us, least_us and most_us."""
    us = statistics.median(figure["us"] for figure in figures)
    least = min(figure["least_us"] for figure in figures)
    most = max(figure["most_us"] for figure in figures)
    return {"us": us, "least_us": least, "most_us": most, "spread": (most - least) / us}


def by_key(rows, names):
    found = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return found


def measured(row):
    if not row.get("measured"):
        raise Problem("the report has predictions only: expected measured times")
    times = row["measured"]
    return {"us": times["median_us"], "least_us": times["least_us"], "most_us": times["most_us"]}


def benches(reports, *names):
    """Returns what the benches measured in all runs."""
    found = [(report.get("benches") or {}).get(name) for report in reports for name in names]
    return [bench for bench in found if bench]


def rows_of(found):
    """Returns the rows of benches, each with the copy bandwidth of its run."""
    return [{**row, "copy": bench["copy_gb_per_s"]} for bench in found for row in bench.get("rows", [])]


def share_of_copy(rows):
    """Returns the share of the copy bandwidth of the same run, as the median of the runs."""
    return statistics.median(row["bytes"] / measured(row)["us"] / 1e3 / row["copy"] for row in rows)


def why_not_run(reports, names):
    """Returns why benches did not run, as far as the reports say."""
    for report in reports:
        for part in report.get("parts", []):
            if part["name"] in [f"bench::{name}" for name in names] and part.get("why"):
                return f"{part['result']}: {part['why']}"
        if report.get("problem"):
            return report["problem"]
    return "not among the parts of the runs"


class Results:
    """The results of several runs on one device."""

    def __init__(self, reports, peers):
        self.reports = reports
        self.benches = benches(reports, *GEMM_BENCHES)
        if not self.benches:
            why = why_not_run(reports, GEMM_BENCHES)
            raise Problem(f"the reports have no bench {' or '.join(GEMM_BENCHES)}: {why}")
        self.device = self.benches[0]["device"]
        names = {bench["device"]["name"] for bench in self.benches}
        names |= {report["device"]["name"] for report in reports if report.get("device")}
        if len(names) > 1:
            raise Problem(f"reports of several devices: {', '.join(sorted(names))}: expected one")
        self.peers = benches(reports, "peers") or peers
        for peer in self.peers:
            if peer.get("device", self.device["name"]) != self.device["name"]:
                raise Problem(f"the peers ran on {peer['device']}: expected {self.device['name']}")
        self.copy = statistics.median(bench["copy_gb_per_s"] for bench in self.benches)
        self.absent = self.why_absent()
        self.rows = self.gemms()
        self.chain = self.chains()

    def why_absent(self):
        """Returns why peers were not measured, or not completely, by name."""
        absent = {}
        for name in PEERS:
            entries = [entry for peer in self.peers for entry in peer["peers"] if entry["peer"] == name]
            reasons = [entry["absent"] for entry in entries if entry["absent"]]
            if not entries:
                reasons = [why_not_run(self.reports, ["peers"])]
            if reasons:
                absent[name] = reasons[0]
        return absent

    def peer_figures(self, part, names):
        rows = by_key([row for peer in self.peers for row in peer[part]], ["peer", *names])
        return {key: joined(found) for key, found in rows.items()}

    def against(self, ours, peers, key):
        """Yields a row per peer. The fields of a peer without a figure are empty."""
        for name in PEERS:
            peer = peers.get((name, *key))
            yield {
                **ours,
                "peer": name,
                "peer_us": peer and peer["us"],
                "peer_spread": peer and peer["spread"],
                "ratio": peer and peer["us"] / ours["us"],
            }

    def gemms(self):
        mma = {kernel["name"]: kernel["mma"] for kernel in self.device["kernels"]}
        peers = self.peer_figures("rows", ["m", "n", "k"])
        names = ["kernel", "launches", "width", "grouping", "x", "m", "n", "k"]
        rows = []
        measurements = rows_of(self.benches)
        for key, found in by_key(measurements, names).items():
            case = dict(zip(names, key))
            figure = joined([measured(row) for row in found])
            moved, operations = found[0]["bytes"], 2 * case["m"] * case["n"] * case["k"]
            gbps = moved / figure["us"] / 1e3
            ours = {
                "kernel": case["kernel"],
                "launches": case["launches"],
                "width": case["width"],
                "mma": mma.get(case["kernel"]),
                "grouping": case["grouping"],
                "x": case["x"],
                **{name: case[name] for name in ("m", "n", "k")},
                "us": figure["us"],
                "spread": figure["spread"],
                "bytes": moved,
                "gbps": gbps,
                "share_of_copy": share_of_copy(found),
                "tops": operations / figure["us"] / 1e6,
            }
            rows.extend(self.against(ours, peers, (case["m"], case["n"], case["k"])))
        return rows

    def chains(self):
        peers = self.peer_figures("chain", ["m", "layers"])
        names = ["width", "grouping", "m", "layers", "pdl"]
        ours = rows_of(benches(self.reports, "chain"))
        rows = []
        for key, found in by_key(ours, names).items():
            case = dict(zip(names, key))
            figure = joined([measured(row) for row in found])
            gbps = found[0]["bytes"] / figure["us"] / 1e3
            row = {
                "width": case.pop("width"),
                **case,
                "us": figure["us"],
                "spread": figure["spread"],
                "gbps": gbps,
                "share_of_copy": share_of_copy(found),
            }
            rows.extend(self.against(row, peers, (case["m"], case["layers"])))
        return rows

    def tests(self):
        """Returns how many tests passed, failed, and did not run to their end in any run."""
        results = {}
        for report in self.reports:
            for part in report.get("parts", []):
                if part["kind"] != "bench":
                    results.setdefault(part["name"], set()).add(part["result"])
        failed = sum(bool(found & {"failed", "timeout"}) for found in results.values())
        passed = sum("ok" in found and not found & {"failed", "timeout"} for found in results.values())
        return {"passed": passed, "failed": failed, "not_run": len(results) - passed - failed}

    def facts(self):
        last = self.reports[-1]
        peers = next((peer for peer in self.peers if peer.get("torch")), {})
        return {
            "device": self.device["name"],
            "capability": self.device.get("capability"),
            "driver": self.device.get("driver_module"),
            "driver_cuda": self.device.get("driver_cuda"),
            "nvcc": self.device.get("nvcc"),
            "built_for": self.device.get("built_for"),
            "torch": peers.get("torch"),
            "torch_copy_gb_per_s": peers.get("copy_gb_per_s"),
            "copy_gb_per_s": self.copy,
            "dense_tops": self.device.get("dense_tops") or {},
            "clocks": [report.get("clocks") for report in self.reports],
            "runs": len(self.reports),
            "kit": last.get("kit"),
            "date": last.get("date"),
            "tests": self.tests(),
            "limits": [bench["limits"] for bench in benches(self.reports, *LIMITED_BENCHES) if bench.get("limits")],
            "rescale": [row for bench in self.benches for row in bench.get("rescale", [])],
            "absent": self.absent,
        }
