//! The results as written to `target/peers.json`, and look-ups in them.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// State of the caches before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// All calls use one weight, of which a part or all is in a cache.
    Warm,
    /// Calls use a ring of weights that is larger than any cache, so each reads its weight from
    /// memory.
    Cold,
}

impl std::fmt::Display for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        })
    }
}

/// A product and the way that it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    pub n: usize,
    pub k: usize,
    pub m: usize,
    pub threads: usize,
    /// The largest instruction set that either library may use. The build for `avx2` has no
    /// AVX-512.
    pub isa: String,
    pub cache: Cache,
}

/// w4ax compared with one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerRow {
    pub peer: String,
    pub width: String,
    #[serde(flatten)]
    pub case: Case,
    /// Median of the rounds, as `peer_ms`.
    pub ours_ms: f64,
    pub peer_ms: f64,
    /// The peer's time divided by ours; median of the rounds.
    pub ratio: f64,
    /// Shortest round, as `peer_best_ms`: the least disturbed by other users of the machine.
    pub ours_best_ms: f64,
    pub peer_best_ms: f64,
    /// For one token: the time of a plain read of our weight divided by ours; median of the rounds.
    pub of_read: Option<f64>,
    /// Bytes of our packed weight with its scales.
    pub weight_bytes: usize,
}

impl PeerRow {
    /// Returns the bandwidth of our weight and scales, read once, in GB/s.
    pub fn gb_per_s(&self) -> f64 {
        self.weight_bytes as f64 / self.ours_ms / 1e6
    }

    /// Returns 1e9 products per second.
    pub fn gmacs(&self) -> f64 {
        (self.case.m * self.case.n * self.case.k) as f64 / self.ours_ms / 1e6
    }

    /// Returns products per byte of our weight.
    pub fn intensity(&self) -> f64 {
        (self.case.m * self.case.n * self.case.k) as f64 / self.weight_bytes as f64
    }
}

/// The share of preparing the activations in a GEMM: the time of one tile of rows divided by that
/// of all rows, an upper bound.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Preparation {
    pub width: String,
    pub threads: usize,
    pub isa: String,
    pub m: usize,
    pub k: usize,
    pub tile_n: usize,
    pub tile_ms: f64,
    pub n: usize,
    pub ms: f64,
    /// Median of the rounds.
    pub share: f64,
}

/// The time of one thread divided by that of several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scaling {
    pub width: String,
    #[serde(flatten)]
    pub case: Case,
    pub speedup: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerReport {
    /// Model name of the CPU.
    pub device: String,
    pub isa: String,
    pub limits: Vec<Limits>,
    pub rows: Vec<PeerRow>,
    pub preparation: Vec<Preparation>,
    pub scaling: Vec<Scaling>,
}

impl PeerReport {
    pub fn new(isa: &str) -> Self {
        Self {
            device: device(),
            isa: isa.into(),
            limits: Vec::new(),
            rows: Vec::new(),
            preparation: Vec::new(),
            scaling: Vec::new(),
        }
    }

    /// Appends the results of another process. Device and instruction set remain those of `self`.
    pub fn merge(mut self, other: Self) -> Self {
        self.limits.extend(other.limits);
        self.rows.extend(other.rows);
        self.preparation.extend(other.preparation);
        self
    }

    /// Fills in `scaling` from the rows of different numbers of threads.
    pub fn compute_scaling(&mut self) {
        let mut scaling: Vec<Scaling> = Vec::new();
        for case in self.cases() {
            let alone = Case {
                threads: 1,
                ..case.clone()
            };
            for width in self.widths(case) {
                if let (true, Some(one), Some(all)) = (
                    case.threads > 1,
                    self.ours(&alone, width),
                    self.ours(case, width),
                ) {
                    scaling.push(Scaling {
                        width: width.into(),
                        case: case.clone(),
                        speedup: one.ours_ms / all.ours_ms,
                    });
                }
            }
        }
        self.scaling = scaling;
    }

    /// Returns the cases in the order in which they were measured.
    pub fn cases(&self) -> Vec<&Case> {
        let mut cases: Vec<&Case> = self.rows.iter().map(|row| &row.case).collect();
        cases.dedup();
        cases
    }

    /// Returns our widths of a case, narrowest first.
    pub fn widths(&self, case: &Case) -> Vec<&str> {
        let rows = self.rows.iter().filter(|row| row.case == *case);
        let mut widths: Vec<&str> = rows.map(|row| row.width.as_str()).collect();
        widths.dedup();
        widths
    }

    /// Returns the rows of a width, one per peer.
    pub fn against(&self, case: &Case, width: &str) -> Vec<&PeerRow> {
        let ours = |row: &&PeerRow| row.case == *case && row.width == width;
        self.rows.iter().filter(ours).collect()
    }

    /// Returns a row of a width, for our figures.
    pub fn ours(&self, case: &Case, width: &str) -> Option<&PeerRow> {
        self.against(case, width).into_iter().next()
    }

    /// Returns the row of a width with candle's fastest kind.
    pub fn best(&self, case: &Case, width: &str) -> Option<&PeerRow> {
        let rows = self.against(case, width).into_iter();
        rows.min_by(|a, b| a.peer_ms.total_cmp(&b.peer_ms))
    }

    pub fn limits(&self, case: &Case) -> Option<&Limits> {
        let same = |l: &&Limits| (l.threads, l.n, l.k) == (case.threads, case.n, case.k);
        self.limits.iter().find(same)
    }
}

/// Returns the CPU's model name from /proc/cpuinfo, otherwise the architecture.
fn device() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name).into()
}
