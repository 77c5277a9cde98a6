//! What was measured, as it stands in `target/peers.json`, and questions to it.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// What a call finds in the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// One weight, again and again: what of it fits a cache is there.
    Warm,
    /// A ring of weights larger than any cache: each call reads its weight from memory.
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

/// One product, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    pub n: usize,
    pub k: usize,
    pub m: usize,
    pub threads: usize,
    /// The most that either side may use; `avx2` is also compiled without AVX-512.
    pub isa: String,
    pub cache: Cache,
}

/// Ours against one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub peer: String,
    pub width: String,
    #[serde(flatten)]
    pub case: Case,
    /// Medians of the rounds.
    pub ours_ms: f64,
    pub peer_ms: f64,
    /// The peer's time over ours, the median of rounds in which both ran.
    pub ratio: f64,
    /// The shortest: what is left of a machine that others use too.
    pub ours_best_ms: f64,
    pub peer_best_ms: f64,
    /// For one token: the time of a mere read of our weight over ours, the median of rounds.
    pub of_read: Option<f64>,
    /// Of our weight, scales included.
    pub weight_bytes: usize,
}

impl Row {
    /// GB/s of our weight and scales, read once.
    pub fn gb_per_s(&self) -> f64 {
        self.weight_bytes as f64 / self.ours_ms / 1e6
    }

    /// Products a second, in 1e9.
    pub fn gmacs(&self) -> f64 {
        (self.case.m * self.case.n * self.case.k) as f64 / self.ours_ms / 1e6
    }

    /// Products a byte of our weight.
    pub fn intensity(&self) -> f64 {
        (self.case.m * self.case.n * self.case.k) as f64 / self.weight_bytes as f64
    }
}

/// What preparing the activations takes of a GEMM: the time of one tile of rows over that of all, an upper bound.
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
    /// The median of rounds in which both ran.
    pub share: f64,
}

/// One thread's time over that of several.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scaling {
    pub width: String,
    #[serde(flatten)]
    pub case: Case,
    pub speedup: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The CPU's name for itself.
    pub device: String,
    pub isa: String,
    pub limits: Vec<Limits>,
    pub rows: Vec<Row>,
    pub preparation: Vec<Preparation>,
    pub scaling: Vec<Scaling>,
}

impl Report {
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

    /// Both; the name of the instruction set stays the first's.
    pub fn with(mut self, other: Self) -> Self {
        self.limits.extend(other.limits);
        self.rows.extend(other.rows);
        self.preparation.extend(other.preparation);
        self
    }

    /// Fills in what follows from rows of different counts of threads.
    pub fn scale(&mut self) {
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

    /// In the order in which they were measured.
    pub fn cases(&self) -> Vec<&Case> {
        let mut cases: Vec<&Case> = self.rows.iter().map(|row| &row.case).collect();
        cases.dedup();
        cases
    }

    /// Ours, narrowest first.
    pub fn widths(&self, case: &Case) -> Vec<&str> {
        let rows = self.rows.iter().filter(|row| row.case == *case);
        let mut widths: Vec<&str> = rows.map(|row| row.width.as_str()).collect();
        widths.dedup();
        widths
    }

    /// The rows of this width, one for each peer.
    pub fn against(&self, case: &Case, width: &str) -> Vec<&Row> {
        let ours = |row: &&Row| row.case == *case && row.width == width;
        self.rows.iter().filter(ours).collect()
    }

    /// One of them, where only ours is looked at.
    pub fn ours(&self, case: &Case, width: &str) -> Option<&Row> {
        self.against(case, width).into_iter().next()
    }

    /// The row of this width against candle's fastest.
    pub fn best(&self, case: &Case, width: &str) -> Option<&Row> {
        let rows = self.against(case, width).into_iter();
        rows.min_by(|a, b| a.peer_ms.total_cmp(&b.peer_ms))
    }

    pub fn limits(&self, case: &Case) -> Option<&Limits> {
        let same = |l: &&Limits| (l.threads, l.n, l.k) == (case.threads, case.n, case.k);
        self.limits.iter().find(same)
    }
}

/// As Linux has it.
fn device() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name).into()
}
