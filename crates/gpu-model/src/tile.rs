//! The tile variants of the GEMM kernels: what a block computes and the resources that it needs.
//!
//! The variants are those that the kernels' lists instantiate. The numbers follow the
//! configurations of the kernels' templates (`DecodeConfig`, `PrefillConfig`, `WgmmaConfig`).

use crate::trace::{Repeat, Work};

/// The template arguments of a GEMM kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Whether the kernel belongs to the decode family.
    pub decode: bool,
    /// Whether the kernel belongs to the wgmma family (sm_90a). All warps multiply with all `mt`
    /// token tiles.
    pub wgmma: bool,
    /// Bits of an activation: 4 (also for A2), 8 or 16.
    pub bits: usize,
    /// Weights of a group along k that share a scale; 0 for per channel, and for two-level weights.
    pub group: usize,
    /// Whether the weights are two-level: they have integer steps of groups.
    pub two_level: bool,
    /// Whether the kernel quantizes the activations itself.
    pub fused: bool,
    /// Weight tiles of 16 channels, of a block (decode) or of a warp (prefill).
    pub nt: usize,
    /// Activation tiles of 8 tokens, of a block (decode) or of a warp (prefill).
    pub mt: usize,
    /// Warps along the tokens (prefill).
    pub warps_m: usize,
    /// Depth of the ring of stages, of 128 k each (prefill).
    pub stages: usize,
}

impl Tile {
    /// Returns variant `tile`, counted from 1, of the decode or the prefill family; `None` if it
    /// does not exist.
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
            two_level: false,
            fused,
            nt,
            mt,
            warps_m,
            stages,
        })
    }

    /// Returns variant `tile`, counted from 1, of the wgmma family; `None` if it does not exist.
    pub fn wgmma(bits: usize, group: usize, tile: u32) -> Option<Self> {
        // Only kernels whose sums cover whole rows have two weight tiles per warp.
        let (mt, nt) = match tile {
            1 => (10, 1),
            2 => (16, 1),
            3 if bits != 16 && group == 0 => (10, 2),
            4 if bits != 16 && group == 0 => (16, 2),
            _ => return None,
        };
        Some(Self {
            decode: false,
            wgmma: true,
            // Codes of 2 and 4 bits take a byte each.
            bits: bits.max(8),
            group,
            two_level: false,
            fused: bits == 16,
            nt,
            mt,
            warps_m: 1,
            stages: 4,
        })
    }

    /// Returns the same variant for two-level weights.
    #[must_use]
    pub fn for_two_level(self) -> Self {
        Self {
            group: 0,
            two_level: true,
            ..self
        }
    }

    /// Returns the part of the kernel's demangled name that identifies it.
    pub fn symbol(&self) -> String {
        let Self {
            bits,
            fused,
            nt,
            mt,
            ..
        } = self;
        let group = if self.two_level {
            -1
        } else {
            self.group as i64
        };
        if self.decode {
            format!("::decode_kernel<w4ax::DecodeConfig<{bits}, {group}, {fused}, {nt}, {mt}>")
        } else if self.wgmma {
            let tokens = self.tokens();
            format!("::wgmma_kernel<w4ax::WgmmaConfig<{bits}, {group}, {tokens}, {nt}>")
        } else {
            let (warps, stages) = (self.warps_m, self.stages);
            format!(
                "::prefill_kernel<w4ax::PrefillConfig<{bits}, {group}, {fused}, {nt}, {mt}, \
                 {warps}, {stages}>"
            )
        }
    }

    fn quantized(&self) -> bool {
        self.bits != 16
    }

    /// Returns the length of a segment of k whose products share an accumulator.
    fn segment(&self) -> usize {
        if self.group == 0 { 128 } else { self.group }
    }

    /// Returns the k-tiles of 64 that a warp processes in an iteration of its main loop.
    pub fn warp_tiles(&self) -> usize {
        match (self.decode, self.nt * self.mt) {
            (false, _) => 2,
            (true, 1) if self.segment() == 32 => 2,
            (true, 1) => 4,
            (true, _) if self.mt == 1 => self.segment() / 32,
            (true, _) if self.segment() == 128 => 2,
            _ => 1,
        }
    }

    /// Returns the k-tiles that a block processes in an iteration of its main loop.
    pub fn block_tiles(&self) -> usize {
        if self.decode {
            self.warps() * self.warp_tiles()
        } else {
            2
        }
    }

    /// Returns the warps of a block that multiply.
    pub fn warps(&self) -> usize {
        match self.decode {
            false if self.wgmma => 8,
            true if self.segment() == 32 && self.mt == 2 => 4,
            true => 8,
            false => 4 * self.warps_m,
        }
    }

    /// Returns the output channels of a block.
    pub fn rows(&self) -> usize {
        match (self.decode, self.wgmma) {
            (true, _) => 16 * self.nt,
            (false, false) => 64 * self.nt,
            (false, true) => 128 * self.nt,
        }
    }

    /// Returns the warps of a block, including the producer warpgroup of the wgmma family.
    pub fn launched_warps(&self) -> usize {
        self.warps() + if self.wgmma { 4 } else { 0 }
    }

    /// Returns the tokens of a block.
    pub fn tokens(&self) -> usize {
        8 * self.mt * self.warps_m
    }

    /// Returns the matrix multiplications of a warp in an iteration of the main loop.
    ///
    /// `s4`: whether the architecture multiplies 4-bit integers.
    pub fn multiplications(&self, s4: bool) -> usize {
        let steps = match self.bits {
            16 => 4,
            // Decode kernels multiply two-level weights as bytes.
            4 if s4 && self.group != 32 && !(self.decode && self.two_level) => 1,
            _ => 2,
        };
        let activations = if self.wgmma { 1 } else { self.mt };
        self.warp_tiles() * self.nt * activations * steps
    }

    /// Returns the bytes of weights that a block has requested and not yet used.
    pub fn bytes_in_flight(&self) -> usize {
        let ahead = if self.decode { 1 } else { self.stages - 1 };
        ahead * self.block_tiles() * (self.rows() / 16) * 512
    }

    /// Returns the bytes of dynamic shared memory of a block for `m` tokens.
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
        let segments = warps * self.warp_tiles() * 64 / self.segment();
        let slab = if whole_row { warps } else { 2 * segments } * m * (rows + 4) * 4;
        let row_factors = if whole_row {
            0
        } else {
            2 * segments * rows * 12
        };
        let tokens = match (self.quantized(), whole_row) {
            (false, _) => 0,
            (true, true) => warps * m * 8,
            (true, false) => 2 * segments * m * 12,
        };
        let quantizes = self.quantized() && self.fused;
        let codes = if quantizes {
            warps * self.warp_tiles() * m * 8 * self.bits
        } else {
            0
        };
        let steps = warps * self.nt * self.step_bytes(self.warp_tiles());
        slab + row_factors + tokens + codes.next_multiple_of(16) + steps
    }

    /// Returns the bytes of the group steps of a tile's 16 channels and some k-tiles: two bytes for
    /// each channel and group of 32.
    fn step_bytes(&self, k_tiles: usize) -> usize {
        if self.two_level {
            k_tiles * 2 * 16 * 2
        } else {
            0
        }
    }

    fn wgmma_shared(&self) -> usize {
        let quantized = self.quantized();
        let x = self.tokens() * 128 * if quantized { 1 } else { 2 };
        let stage_segments = 128 / self.segment();
        let (group_params, factors) = match (self.group, quantized) {
            (0, _) => (0, 0),
            (_, true) => (
                8 * stage_segments * 16 * 7,
                self.tokens() / 8 * stage_segments * 96,
            ),
            (_, false) => (8 * stage_segments * 16 * 5, 0),
        };
        let tiles_n = 8 * self.nt;
        let steps = tiles_n * self.step_bytes(2);
        let stage = (x + tiles_n * 2 * 512 + group_params + factors + steps).next_multiple_of(1024);
        self.stages * stage + 2 * self.stages * 8
    }

    fn prefill_shared(&self) -> usize {
        let (tiles_n, tiles_m) = (self.rows() / 16, self.tokens() / 8);
        let stage_segments = 128 / self.segment();
        let packed = self.quantized() && !self.fused;
        let code_bytes = if self.quantized() { 64 * self.bits } else { 0 };
        let params = if self.group == 0 {
            0
        } else {
            tiles_n * stage_segments
        };
        let x = if packed {
            2 * tiles_m * code_bytes
        } else {
            self.tokens() * 128 * 2
        };
        let scales = params * 16 * 4;
        let sums = if self.quantized() { params * 16 * 2 } else { 0 };
        let groups = if packed && self.group != 0 {
            tiles_m * stage_segments * 8 * 8
        } else {
            0
        };
        let steps = tiles_n * self.step_bytes(2);
        let stage = (2 * tiles_n * 512 + x + scales + sums + params * 16 + groups + steps)
            .next_multiple_of(128);
        let quantizes = self.quantized() && self.fused;
        let codes = match (quantizes, self.group) {
            (false, _) => 0,
            (true, 0) => 2 * tiles_m * code_bytes + self.tokens() * 16,
            (true, _) => 2 * tiles_m * code_bytes + self.tokens() * stage_segments * 8,
        };
        (self.stages * stage + codes).max(self.tokens() * (self.rows() + 8) * 2)
    }

    /// Returns how often a warp executes a section of its kernel's trace, averaged over the warps
    /// of a block.
    pub fn repetitions(&self, repeat: Repeat, m: usize, k: usize) -> f64 {
        let (share, repetitions) = self.executed(repeat, m, k);
        share * repetitions
    }

    /// Returns how often the busiest warp of a block executes a section of its kernel's trace.
    pub fn repetitions_of_the_busiest(&self, repeat: Repeat, m: usize, k: usize) -> f64 {
        let (share, repetitions) = self.executed(repeat, m, k);
        share.ceil() * repetitions
    }

    /// Returns the share of a block's warps that execute a section, and how often each of them
    /// does.
    fn executed(&self, repeat: Repeat, m: usize, k: usize) -> (f64, f64) {
        let iterations = k.div_ceil(64).div_ceil(self.block_tiles()) as f64;
        let (work, inside, unrolled) = match repeat {
            Repeat::Once => return (1.0, 1.0),
            Repeat::Main => return (1.0, iterations),
            Repeat::Loop {
                work,
                inside,
                unrolled,
            } => (work, inside, unrolled),
        };
        let threads = 32 * self.warps();
        let units = match (work, self.decode) {
            (Work::Quantize, true) => (m * 8 * self.warp_tiles()).div_ceil(32),
            (Work::Quantize, false) => self.tokens() * 16 / threads,
            (Work::Scan, true) => m * k.div_ceil(8 * threads),
            (Work::Scan, false) => self.tokens() / self.warps() * k.div_ceil(8 * 32),
            (Work::Factors, _) => (self.warp_tiles() * 64 / self.segment() * m).div_ceil(32),
            (Work::AddGroups, _) => self.block_tiles() * 64 / self.segment(),
            (Work::Rows, true) => m,
            (Work::Rows, false) => self.tokens() / self.warps(),
            // A thread stores 16 bytes of y.
            (Work::Outputs, _) => (self.tokens() * self.rows() / 8).div_ceil(threads),
            (Work::Other, _) => 1,
        };
        // Each thread loops over its outputs. Threads whose outputs are out of bounds skip the
        // loop.
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
