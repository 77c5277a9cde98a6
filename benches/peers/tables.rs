//! Prints the results as tables.

use comfy_table::{CellAlignment, Table};

use crate::report::{Case, PeerReport};

/// Target for A8: its speed relative to candle's fastest kind.
pub const TARGET: f64 = 1.2;

pub fn print(report: &PeerReport) {
    println!("{}, {}", report.device, report.isa);
    println!("\nAll widths against candle's fastest:\n{}", rows(report));
    println!("\nLimits of the machine, all threads together:");
    for limits in &report.limits {
        println!("  {limits}");
    }
    println!(
        "\nShare of preparing the activations in the time of a GEMM (an upper bound):\n{}",
        preparation(report)
    );
    println!(
        "\nTime of one thread divided by the time of several:\n{}",
        scaling(report)
    );
    println!(
        "\nSummary (target: A8 {TARGET} times as fast as candle's fastest; ratio: median of the \
         rounds; of bests: ratio of the shortest times):\n{}",
        summary(report)
    );
}

/// Returns a table with `left` columns of text, then columns of numbers.
fn table<const N: usize>(
    header: [&str; N],
    left: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share))
}

fn factor(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.2}"))
}

fn head(case: &Case) -> [String; 5] {
    [
        format!("{} x {}", case.n, case.k),
        case.isa.clone(),
        case.cache.to_string(),
        case.threads.to_string(),
        case.m.to_string(),
    ]
}

/// Returns the share of the peak of `vpdpbusd`; `None` for a smaller instruction set, whose peak is
/// not measured.
fn of_peak(report: &PeerReport, case: &Case, width: &str) -> Option<f64> {
    let peak = report.limits(case)?.bytes_peak.as_ref()?;
    let whole = case.isa == report.isa;
    whole.then_some(report.ours(case, width)?.gmacs() / peak.gmacs)
}

fn rows(report: &PeerReport) -> Table {
    let header = [
        "N x K",
        "isa",
        "cache",
        "threads",
        "M",
        "width",
        "ms",
        "fastest",
        "its ms",
        "ratio",
        "GB/s",
        "of read",
        "GMAC/s",
        "of dpbusd",
    ];
    let mut rows = Vec::new();
    for case in report.cases() {
        for width in report.widths(case) {
            let Some(row) = report.best(case, width) else {
                continue;
            };
            let [shape, isa, cache, threads, m] = head(case);
            rows.push([
                shape,
                isa,
                cache,
                threads,
                m,
                width.into(),
                format!("{:.3}", row.ours_ms),
                row.peer.clone(),
                format!("{:.3}", row.peer_ms),
                format!("{:.2}", row.ratio),
                format!("{:.1}", row.gb_per_s()),
                percent(report.ours(case, width).and_then(|row| row.of_read)),
                format!("{:.0}", row.gmacs()),
                percent(of_peak(report, case, width)),
            ]);
        }
    }
    table(header, 3, rows.into_iter())
}

fn preparation(report: &PeerReport) -> Table {
    let header = [
        "width", "isa", "threads", "M", "K", "N", "ms", "N", "ms", "share",
    ];
    let rows = report.preparation.iter().map(|p| {
        [
            p.width.clone(),
            p.isa.clone(),
            p.threads.to_string(),
            p.m.to_string(),
            p.k.to_string(),
            p.tile_n.to_string(),
            format!("{:.3}", p.tile_ms),
            p.n.to_string(),
            format!("{:.3}", p.ms),
            format!("{:.1} %", 100.0 * p.share),
        ]
    });
    table(header, 2, rows)
}

fn scaling(report: &PeerReport) -> Table {
    let header = [
        "N x K", "isa", "cache", "threads", "M", "a2", "a4", "a8", "bf16",
    ];
    let mut cases: Vec<&Case> = report.scaling.iter().map(|s| &s.case).collect();
    cases.dedup();
    let rows = cases.into_iter().map(|case| {
        let of = |width: &str| {
            let mut all = report.scaling.iter();
            factor(
                all.find(|s| s.case == *case && s.width == width)
                    .map(|s| s.speedup),
            )
        };
        let [shape, isa, cache, threads, m] = head(case);
        [
            shape,
            isa,
            cache,
            threads,
            m,
            of("a2"),
            of("a4"),
            of("a8"),
            of("bf16"),
        ]
    });
    table(header, 3, rows)
}

fn summary(report: &PeerReport) -> Table {
    let header = [
        "N x K",
        "isa",
        "cache",
        "threads",
        "M",
        "A8 ms",
        "fastest",
        "its ms",
        "ratio",
        "of bests",
        "met",
        "of read",
        "of dpbusd",
        "BF16/A8",
        "A4/A8",
        "A2/A8",
    ];
    let rows = report.cases().into_iter().filter_map(|case| {
        let best = report.best(case, "a8")?;
        let over = |width| Some(report.ours(case, width)?.ours_ms / best.ours_ms);
        let [shape, isa, cache, threads, m] = head(case);
        Some([
            shape,
            isa,
            cache,
            threads,
            m,
            format!("{:.3}", best.ours_ms),
            best.peer.clone(),
            format!("{:.3}", best.peer_ms),
            format!("{:.2}", best.ratio),
            format!("{:.2}", best.peer_best_ms / best.ours_best_ms),
            if best.ratio >= TARGET { "yes" } else { "no" }.into(),
            percent(report.ours(case, "a8").and_then(|row| row.of_read)),
            percent(of_peak(report, case, "a8").filter(|_| case.m > 1)),
            factor(over("bf16")),
            factor(over("a4")),
            factor(over("a2")),
        ])
    });
    table(header, 3, rows)
}
