//! What instructions ask of a multiprocessor: issue slots, lanes, shared memory, tensor cores.
//!
//! Lanes a clock and multiprocessor are those of the "CUDA C++ Programming Guide", table "Throughput of Native Arithmetic
//! Instructions", quoted from memory: 64 for integer operations, logic, shifts and comparisons; 64 for f32 on sm_80, 128 on the
//! others here, where integer multiplication keeps 64; 16 for reciprocals and conversions. Assumptions: integer
//! multiplications share the f32 lanes; packing integers to bytes (I2IP) runs at the rate of conversions; all of a warp's
//! lanes access different words of shared memory, on different banks.

use std::ops::{Add, Mul};

/// Of a warp, on average: warps that have nothing to do in a piece make it a fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Instructions of all kinds: a scheduler issues one a clock.
    pub instructions: f64,
    /// Integer additions, logic, shifts, comparisons, selections, moves.
    pub alu: f64,
    /// f32 and packed 16-bit arithmetic.
    pub float: f64,
    /// Integer multiplications, and the moves and shifts that the compiler makes of them.
    pub imad: f64,
    /// Reciprocals and conversions, packing integers to bytes among them.
    pub special: f64,
    /// Clocks of shared memory, 128 bytes each.
    pub shared: f64,
    /// Matrix multiplications.
    pub mma: f64,
    /// Their operations, two a multiply-add.
    pub tensor: f64,
    /// Clocks that one warp takes by itself, memory and other units being instant: the encoded stalls.
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

impl Tally {
    /// Of one instruction with its encoded stall.
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
            // A warp's quarter of a warpgroup's: 16 of 64 rows, and of what is read of B, which is 32 bytes for each token.
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
            // Branches, barriers, the uniform datapath, global memory: an issue slot.
            _ => {}
        }
        tally
    }

    /// Clocks that a multiprocessor takes to issue and execute this for `warps` warps, spread over its four schedulers.
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

/// Tokens and k of `IMMA.16864.S4.U4`, all 16 x 8 x K, or of `IGMMA.64x80x32.S8.U8`.
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
    known.unwrap_or_else(|| panic!("{opcode}: no such shape is known"))
}

/// 128 bytes a clock, four bytes a lane at least.
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
