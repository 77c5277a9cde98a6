//! Occupancy: the number of blocks of a kernel that are resident on a multiprocessor at once.

/// Resources of a multiprocessor.
///
/// Source: CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmLimits {
    /// Resident warps.
    pub warps: u32,
    /// Resident blocks.
    pub blocks: u32,
    /// Registers of 32 bits.
    pub registers: u32,
    /// Bytes of shared memory.
    pub shared: u32,
}

impl SmLimits {
    /// Returns the limits of an architecture such as `sm_90a`, or `None` if it is not in the table.
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

/// Resources that a block needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockResources {
    /// Warps of the block.
    pub warps: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of shared memory, static and dynamic.
    pub shared: u32,
}

/// Bytes of shared memory that the driver reserves in each block, from sm_80 on.
const RESERVED: u32 = 1024;
/// Granularity in which shared memory is allocated, in bytes.
const SHARED_UNIT: u32 = 128;
/// Granularity in which a warp is allocated registers.
const REGISTER_UNIT: u32 = 256;

/// Returns the number of blocks that are resident on a multiprocessor; 0 if a block does not fit.
pub fn blocks_per_sm(limits: SmLimits, block: BlockResources) -> u32 {
    let registers = (block.registers * 32).next_multiple_of(REGISTER_UNIT) * block.warps;
    let shared = (block.shared + RESERVED).next_multiple_of(SHARED_UNIT);
    [
        limits.blocks,
        limits.warps / block.warps,
        limits.registers / registers.max(1),
        limits.shared / shared,
    ]
    .into_iter()
    .min()
    .expect("the array has four elements")
}
