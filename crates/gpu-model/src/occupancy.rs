//! How many blocks of a kernel a multiprocessor holds at once.

/// What a multiprocessor has. "CUDA C++ Programming Guide", table "Technical Specifications per Compute Capability".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub warps: u32,
    pub blocks: u32,
    /// Of 32 bits.
    pub registers: u32,
    /// Bytes of shared memory.
    pub shared: u32,
}

impl Limits {
    /// Of an architecture such as `sm_90a`; `None` for one that is not in the table.
    pub fn of(arch: &str) -> Option<Self> {
        let (warps, blocks, shared_kib) = match arch.trim_end_matches(|c: char| c.is_alphabetic()) {
            "sm_80" => (64, 32, 164),
            "sm_86" => (48, 16, 100),
            "sm_87" => (48, 16, 164),
            "sm_89" => (48, 24, 100),
            "sm_90" => (64, 32, 228),
            _ => return None,
        };
        Some(Self {
            warps,
            blocks,
            registers: 65536,
            shared: shared_kib * 1024,
        })
    }
}

/// What a block needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub warps: u32,
    /// Of a thread.
    pub registers: u32,
    /// Bytes of shared memory, static and dynamic.
    pub shared: u32,
}

/// The driver keeps so many bytes of shared memory for itself in each block, from sm_80 on.
const RESERVED: u32 = 1024;
const SHARED_UNIT: u32 = 128;
/// A warp takes registers by so many.
const REGISTER_UNIT: u32 = 256;

/// Blocks that run side by side on a multiprocessor; 0 if a block does not fit.
pub fn blocks_per_sm(limits: Limits, need: Need) -> u32 {
    let registers = (need.registers * 32).next_multiple_of(REGISTER_UNIT) * need.warps;
    let shared = (need.shared + RESERVED).next_multiple_of(SHARED_UNIT);
    [
        limits.blocks,
        limits.warps / need.warps,
        limits.registers / registers.max(1),
        limits.shared / shared,
    ]
    .into_iter()
    .min()
    .expect("four of them")
}
