//! The tile variants as kernels/instances/decode_list.cuh, prefill_list.cuh and wgmma_list.cuh instantiate them: what a block works on and
//! needs. The numbers follow DecodeConfig (decode_config.cuh), PrefillConfig (prefill.cuh) and WgmmaConfig (wgmma.cuh).

use crate::trace::{Times, Work};

/// A GEMM kernel's template arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub decode: bool,
    /// The sm_90a family: `nt` is 1, `mt` a block's tokens, all of which each warp multiplies with.
    pub wgmma: bool,
    /// 4, which takes 2 as well, 8 or 16.
    pub bits: usize,
    /// 0: per channel.
    pub group: usize,
    pub fused: bool,
    /// Weight tiles of 16 channels, and activation tiles of 8 tokens: of a block when decoding, of a warp when prefilling.
    pub nt: usize,
    pub mt: usize,
    /// Prefill: warps along the tokens, and stages of 128 k.
    pub warps_m: usize,
    pub stages: usize,
}

impl Tile {
    /// Variant `tile`, from 1, of a family.
    pub fn of(decode: bool, bits: usize, group: usize, fused: bool, tile: u32) -> Option<Self> {
        let (nt, mt, warps_m, stages) = match (decode, tile) {
            (true, 1) => (1, 1, 1, 1),
            (true, 2) => (2, 1, 1, 1),
            (true, 3) => (2, 2, 1, 1),
            (false, 1) => (1, 4, 1, 4),
            (false, 2) => (2, if bits == 16 { 4 } else { 8 }, 1, 3),
            (false, 3) => (2, if bits == 16 || fused { 4 } else { 8 }, 2, 3),
            _ => return None,
        };
        Some(Self {
            decode,
            wgmma: false,
            bits,
            group,
            fused,
            nt,
            mt,
            warps_m,
            stages,
        })
    }

    /// Variant `tile`, from 1, of the wgmma family.
    pub fn wgmma(bits: usize, group: usize, tile: u32) -> Option<Self> {
        let mt = match tile {
            1 => 10,
            2 => 16,
            _ => return None,
        };
        Some(Self {
            decode: false,
            wgmma: true,
            // A byte a code.
            bits: bits.max(8),
            group,
            fused: bits == 16,
            nt: 1,
            mt,
            warps_m: 1,
            stages: 4,
        })
    }

    /// How its kernel's name goes in machine code.
    pub fn symbol(&self) -> String {
        let Self {
            bits,
            group,
            fused,
            nt,
            mt,
            ..
        } = self;
        if self.decode {
            format!("::decode_kernel<w4ax::DecodeConfig<{bits}, {group}, {fused}, {nt}, {mt}>")
        } else if self.wgmma {
            let tokens = self.tokens();
            format!("::wgmma_kernel<w4ax::WgmmaConfig<{bits}, {group}, {tokens}>")
        } else {
            let (warps, stages) = (self.warps_m, self.stages);
            format!(
                "::prefill_kernel<w4ax::PrefillConfig<{bits}, {group}, {fused}, {nt}, {mt}, {warps}, {stages}>"
            )
        }
    }

    fn quantized(&self) -> bool {
        self.bits != 16
    }

    /// k whose products share an accumulator.
    fn run(&self) -> usize {
        if self.group == 0 { 128 } else { self.group }
    }

    /// k-tiles of 64 that a warp takes in an iteration of its main loop.
    pub fn warp_tiles(&self) -> usize {
        match (self.decode, self.nt * self.mt) {
            (false, _) => 2,
            (true, 1) if self.run() == 32 => 2,
            (true, 1) => 4,
            (true, _) if self.mt == 1 => self.run() / 32,
            (true, _) if self.run() == 128 => 2,
            _ => 1,
        }
    }

    /// k-tiles that a block takes in an iteration.
    pub fn block_tiles(&self) -> usize {
        if self.decode {
            self.warps() * self.warp_tiles()
        } else {
            2
        }
    }

    /// Warps of a block that multiply.
    pub fn warps(&self) -> usize {
        match self.decode {
            false if self.wgmma => 8,
            true if self.run() == 32 && self.mt == 2 => 4,
            true => 8,
            false => 4 * self.warps_m,
        }
    }

    /// Output channels of a block.
    pub fn rows(&self) -> usize {
        match (self.decode, self.wgmma) {
            (true, _) => 16 * self.nt,
            (false, false) => 64 * self.nt,
            (false, true) => 128,
        }
    }

    /// Warps that are launched: with the warpgroup that copies.
    pub fn launched_warps(&self) -> usize {
        self.warps() + if self.wgmma { 4 } else { 0 }
    }

    /// Tokens of a block.
    pub fn tokens(&self) -> usize {
        8 * self.mt * self.warps_m
    }

    /// Multiplications of a warp in an iteration, which the machine code is compared with. `s4`: the machine multiplies 4-bit integers.
    pub fn multiplications(&self, s4: bool) -> usize {
        let steps = match self.bits {
            16 => 4,
            4 if s4 && self.group != 32 => 1,
            _ => 2,
        };
        let activations = if self.wgmma { 1 } else { self.mt };
        self.warp_tiles() * self.nt * activations * steps
    }

    /// Bytes of weights that a block has asked for and not yet used.
    pub fn bytes_in_flight(&self) -> usize {
        let ahead = if self.decode { 1 } else { self.stages - 1 };
        ahead * self.block_tiles() * (self.rows() / 16) * 512
    }

    /// Bytes of dynamic shared memory of a block for m tokens.
    pub fn shared_bytes(&self, m: usize) -> usize {
        if self.decode {
            self.decode_shared(m)
        } else if self.wgmma {
            self.wgmma_shared()
        } else {
            self.prefill_shared()
        }
    }

    fn decode_shared(&self, m: usize) -> usize {
        let whole_row = self.quantized() && self.group == 0;
        let (warps, rows) = (self.warps(), self.rows());
        let runs = warps * self.warp_tiles() * 64 / self.run();
        let slab = if whole_row { warps } else { 2 * runs } * m * (rows + 4) * 4;
        let row_factors = if whole_row { 0 } else { 2 * runs * rows * 12 };
        let tokens = match (self.quantized(), whole_row) {
            (false, _) => 0,
            (true, true) => warps * m * 8,
            (true, false) => 2 * runs * m * 12,
        };
        let quantizes = self.quantized() && self.fused;
        let codes = if quantizes {
            warps * self.warp_tiles() * m * 8 * self.bits
        } else {
            0
        };
        slab + row_factors + tokens + codes.next_multiple_of(16)
    }

    fn wgmma_shared(&self) -> usize {
        let quantized = self.quantized();
        let x = self.tokens() * 128 * if quantized { 1 } else { 2 };
        let stage_runs = 128 / self.run();
        let (beside, factors) = match (self.group, quantized) {
            (0, _) => (0, 0),
            (_, true) => (8 * stage_runs * 16 * 7, self.tokens() / 8 * stage_runs * 96),
            (_, false) => (8 * stage_runs * 16 * 5, 0),
        };
        let stage = (x + 8 * 2 * 512 + beside + factors).next_multiple_of(1024);
        self.stages * stage + 2 * self.stages * 8
    }

    fn prefill_shared(&self) -> usize {
        let (tiles_n, tiles_m, stage_runs) =
            (self.rows() / 16, self.tokens() / 8, 128 / self.run());
        let packed = self.quantized() && !self.fused;
        let code_bytes = if self.quantized() { 64 * self.bits } else { 0 };
        let beside = if self.group == 0 {
            0
        } else {
            tiles_n * stage_runs
        };
        let x = if packed {
            2 * tiles_m * code_bytes
        } else {
            self.tokens() * 128 * 2
        };
        let scales = beside * 16 * 4;
        let sums = if self.quantized() { beside * 16 * 2 } else { 0 };
        let groups = if packed && self.group != 0 {
            tiles_m * stage_runs * 8 * 8
        } else {
            0
        };
        let stage =
            (2 * tiles_n * 512 + x + scales + sums + beside * 16 + groups).next_multiple_of(128);
        let quantizes = self.quantized() && self.fused;
        let here = match (quantizes, self.group) {
            (false, _) => 0,
            (true, 0) => 2 * tiles_m * code_bytes + self.tokens() * 16,
            (true, _) => 2 * tiles_m * code_bytes + self.tokens() * stage_runs * 8,
        };
        (self.stages * stage + here).max(self.tokens() * (self.rows() + 8) * 2)
    }

    /// How often a warp takes a piece of its kernel's way, on average over a block's warps.
    pub fn repetitions(&self, times: Times, m: usize, k: usize) -> f64 {
        let (share, repetitions) = self.taken(times, m, k);
        share * repetitions
    }

    /// The same of the warp that has the most to do.
    pub fn repetitions_of_the_busiest(&self, times: Times, m: usize, k: usize) -> f64 {
        let (share, repetitions) = self.taken(times, m, k);
        share.ceil() * repetitions
    }

    /// The share of a block's warps that take a piece, and how often they do.
    fn taken(&self, times: Times, m: usize, k: usize) -> (f64, f64) {
        let iterations = k.div_ceil(64).div_ceil(self.block_tiles()) as f64;
        let Times::Loop {
            work,
            inside,
            unrolled,
        } = times
        else {
            return (
                1.0,
                if times == Times::Main {
                    iterations
                } else {
                    1.0
                },
            );
        };
        let threads = 32 * self.warps();
        let units = match (work, self.decode) {
            (Work::Quantize, true) => (m * 8 * self.warp_tiles()).div_ceil(32),
            (Work::Quantize, false) => self.tokens() * 16 / threads,
            (Work::Scan, true) => m * k.div_ceil(8 * threads),
            (Work::Scan, false) => self.tokens() / self.warps() * k.div_ceil(8 * 32),
            (Work::Factors, _) => (self.warp_tiles() * 64 / self.run() * m).div_ceil(32),
            (Work::AddGroups, _) => self.block_tiles() * 64 / self.run(),
            (Work::Rows, true) => m,
            (Work::Rows, false) => self.tokens() / self.warps(),
            // 16 bytes of y a thread.
            (Work::Outputs, _) => (self.tokens() * self.rows() / 8).div_ceil(threads),
            (Work::Other, _) => 1,
        };
        // A loop for each of a thread's outputs; those of tokens that there are not stand still.
        let share = match work {
            Work::AddGroups => {
                let outputs = (self.rows() * self.tokens()).div_ceil(threads) * threads;
                ((m * self.rows()).next_multiple_of(32) as f64 / outputs as f64).min(1.0)
            }
            _ => 1.0,
        };
        let repetitions = units.div_ceil(unrolled) as f64 * if inside { iterations } else { 1.0 };
        (share, repetitions)
    }
}
