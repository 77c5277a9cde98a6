//! The units of a multiprocessor that instructions occupy: issue slots, arithmetic lanes, shared
//! memory, tensor cores.
//!
//! Lanes per clock and multiprocessor follow the CUDA C++ Programming Guide, table "Throughput of
//! Native Arithmetic Instructions":
//!
//! | instructions | sm_80 | other architectures of the model |
//! | --- | --- | --- |
//! | integer additions, logic, shifts, comparisons | 64 | 64 |
//! | f32 arithmetic | 64 | 128 |
//! | integer multiplications | 64 | 64 |
//! | reciprocals, conversions | 16 | 16 |
//!
//! Assumptions:
//! - integer multiplications share the lanes of f32;
//! - packing integers to bytes (I2IP) runs at the rate of conversions;
//! - the lanes of a warp access different words of shared memory, on different banks.

use std::ops::{Add, Mul};

/// Instructions of a warp and what they occupy.
///
/// Counts are averages over warps: a warp that is idle in a section makes them fractional.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Instructions of all kinds. A scheduler issues one per clock.
    pub instructions: f64,
    /// Integer additions, logic, shifts, comparisons, selections and moves.
    pub alu: f64,
    /// f32 and packed 16-bit arithmetic.
    pub float: f64,
    /// Integer multiplications, and the moves and shifts that the compiler expresses as such.
    pub imad: f64,
    /// Reciprocals and conversions, including packing integers to bytes.
    pub special: f64,
    /// Clocks of shared memory, at 128 bytes each.
    pub shared: f64,
    /// Matrix multiplications.
    pub mma: f64,
    /// Operations of the matrix multiplications, two per multiply-add.
    pub tensor: f64,
    /// Clocks that a warp stalls by the encoded stall counts, with memory and other units being
    /// instant.
    pub stalls: f64,
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            instructions: self.instructions + other.instructions,
            alu: self.alu + other.alu,
            float: self.float + other.float,
            imad: self.imad + other.imad,
            special: self.special + other.special,
            shared: self.shared + other.shared,
            mma: self.mma + other.mma,
            tensor: self.tensor + other.tensor,
            stalls: self.stalls + other.stalls,
        }
    }
}

impl Mul<f64> for Tally {
    type Output = Self;
    fn mul(self, times: f64) -> Self {
        Self {
            instructions: self.instructions * times,
            alu: self.alu * times,
            float: self.float * times,
            imad: self.imad * times,
            special: self.special * times,
            shared: self.shared * times,
            mma: self.mma * times,
            tensor: self.tensor * times,
            stalls: self.stalls * times,
        }
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

impl Tally {
    /// Returns the tally of one instruction with its encoded stall count.
    ///
    /// # Panics
    /// If the shape of a matrix multiplication is not known.
    pub fn of(opcode: &str, stall: u8) -> Self {
        let mut tally = Self {
            instructions: 1.0,
            stalls: f64::from(stall),
            ..Self::default()
        };
        let name = opcode.split('.').next().unwrap_or("");
        match name {
            "IMMA" | "HMMA" => {
                tally.mma = 1.0;
                let (tokens, k) = extents(opcode);
                tally.tensor = 2.0 * 16.0 * tokens * k;
            }
            // A warp's quarter of a warpgroup's instruction: 16 of 64 rows, and a quarter of the
            // reads of B (32 bytes a token).
            "IGMMA" | "HGMMA" => {
                tally.mma = 1.0;
                let (tokens, k) = extents(opcode);
                tally.tensor = 2.0 * 16.0 * tokens * k;
                tally.shared = tokens * 32.0 / 128.0 / 4.0;
            }
            "LDS" | "STS" | "LDSM" | "LDGSTS" => tally.shared = shared_clocks(opcode),
            "MUFU" | "I2F" | "F2I" | "I2IP" | "FRND" => tally.special = 1.0,
            "IMAD" | "IDP" => tally.imad = 1.0,
            "FADD" | "FMUL" | "FFMA" | "HADD2" | "HMUL2" | "HFMA2" => tally.float = 1.0,
            "LOP3" | "SHF" | "LEA" | "IADD3" | "IABS" | "ISETP" | "FSETP" | "IMNMX" | "FMNMX"
            | "HMNMX2" | "VHMNMX" | "VIADD" | "VIMNMX" | "VIADDMNMX" | "I2FP" | "SEL" | "FSEL"
            | "PRMT" | "PLOP3" | "MOV" => tally.alu = 1.0,
            // Branches, barriers, the uniform datapath and global memory take an issue slot only.
            _ => {}
        }
        tally
    }

    /// Returns the clocks that a multiprocessor takes to issue and execute this tally for `warps`
    /// warps.
    ///
    /// The warps are spread over the four schedulers. `f32_lanes`: lanes of f32 arithmetic of the
    /// multiprocessor.
    pub fn issue_clocks(&self, warps: f64, f32_lanes: f64) -> f64 {
        let lanes = |instructions: f64, lanes: f64| instructions * 32.0 / lanes;
        let multiply = if f32_lanes > 64.0 {
            lanes(self.float + self.imad, f32_lanes).max(lanes(self.imad, 64.0))
        } else {
            lanes(self.float + self.imad, f32_lanes)
        };
        let clocks = [
            self.instructions / 4.0,
            lanes(self.alu, 64.0),
            multiply,
            lanes(self.special, 16.0),
        ];
        warps * clocks.into_iter().fold(0.0, f64::max)
    }
}

/// Returns tokens and k of a matrix multiplication: `IMMA.16864.S4.U4` (16 x 8 x 64) or
/// `IGMMA.64x80x32.S8.U8`.
fn extents(opcode: &str) -> (f64, f64) {
    let shape = opcode.split('.').nth(1).unwrap_or("");
    let known = match shape {
        "16816" => Some((8.0, 16.0)),
        "16832" => Some((8.0, 32.0)),
        "16864" => Some((8.0, 64.0)),
        _ => (shape.strip_prefix("64x"))
            .and_then(|rest| rest.split_once('x'))
            .and_then(|(tokens, k)| Some((tokens.parse().ok()?, k.parse().ok()?))),
    };
    known.unwrap_or_else(|| panic!("unknown shape of a matrix multiplication: {opcode}"))
}

/// Returns the clocks of a warp's access to shared memory: 128 bytes per clock, at least four bytes
/// per lane.
fn shared_clocks(opcode: &str) -> f64 {
    let has = |part: &str| opcode.split('.').any(|have| have == part);
    if has("128") || (has("M88") && has("4")) {
        4.0
    } else if has("64") || (has("M88") && has("2")) {
        2.0
    } else {
        1.0
    }
}
