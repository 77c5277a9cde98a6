//! The launches of a GEMM, and the errors of the arguments that they come from.

use crate::cuda::sys::{self, status};
use crate::cuda::{Family, Mode};
use crate::{Error, Result};

/// The launches of a GEMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchPlan {
    /// The family.
    pub family: Family,
    /// Whether the kernel of the GEMM reads BF16 or quantized activations.
    pub mode: Mode,
    /// The tile variant.
    pub tile: u32,
    /// Number of launches: the GEMM, the quantization of the activations before it, the gather
    /// before both.
    pub launches: u32,
    /// Whether the activations are gathered first, into the order of k of the weight.
    pub gathers: bool,
    /// The kernel of the GEMM, such as `decode_a4_g128_fused_16x8`.
    pub kernel: &'static str,
    /// Output channels of a block.
    pub tile_n: usize,
    /// Tokens of a block.
    pub tile_m: usize,
    /// Blocks of the GEMM.
    pub blocks: usize,
    /// Bytes of workspace.
    pub workspace_bytes: usize,
    /// The kernel reads x element by element, because its rows are not aligned.
    pub slow_x: bool,
    /// The kernel writes y element by element, because its rows are not aligned.
    pub slow_y: bool,
}

impl LaunchPlan {
    pub(crate) fn of(args: &sys::w4axk_gemm_args) -> Result<Self> {
        let mut plan = sys::w4axk_plan::default();
        // SAFETY: both structures live during the call, which launches nothing and follows no
        // pointer in them.
        let status = unsafe { sys::w4axk_plan_gemm(args, &mut plan) };
        check_gemm(args, status)?;
        Ok(Self {
            family: Family::from_code(plan.family)?,
            mode: Mode::from_code(plan.mode)?,
            tile: plan.tile,
            launches: plan.launches,
            gathers: false,
            // SAFETY: a static text.
            kernel: unsafe { sys::text(sys::w4axk_kernel_name(plan.kernel)) },
            tile_n: plan.tile_n as usize,
            tile_m: plan.tile_m as usize,
            blocks: plan.blocks as usize,
            workspace_bytes: plan.workspace_bytes as usize,
            slow_x: plan.slow_x != 0,
            slow_y: plan.slow_y != 0,
        })
    }

    /// The same launches after a gather, which takes `bytes` of the workspace.
    pub(crate) fn after_gather(self, bytes: usize) -> Self {
        Self {
            launches: self.launches + 1,
            gathers: true,
            workspace_bytes: bytes + self.workspace_bytes,
            ..self
        }
    }
}

impl std::fmt::Display for LaunchPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.gathers {
            f.write_str("gather, then ")?;
        }
        if self.launches > 1 + u32::from(self.gathers) {
            f.write_str("quantize_pack, then ")?;
        }
        write!(f, "{} in {} blocks", self.kernel, self.blocks)?;
        for (slow, what) in [(self.slow_x, "unaligned x"), (self.slow_y, "unaligned y")] {
            if slow {
                write!(f, ", slow path for {what}")?;
            }
        }
        Ok(())
    }
}

/// Converts the status of a GEMM. An error that safe code can cause names the argument.
pub(crate) fn check_gemm(args: &sys::w4axk_gemm_args, status: sys::w4axk_status) -> Result<()> {
    let family = || Family::from_code(args.family).map_or("any".into(), |f| f.to_string());
    match status {
        sys::W4AXK_BAD_FAMILY => Err(Error::Range {
            what: "M of the decode family",
            value: args.m.to_string(),
            range: "1..=16",
        }),
        sys::W4AXK_BAD_TILE => Err(Error::Range {
            what: "tile",
            value: format!("{} (family {}, M {})", args.tile, family(), args.m),
            range: "the tile variants of the family that support this M on this device",
        }),
        sys::W4AXK_BAD_MODE => Err(Error::Range {
            what: "mode of the activations",
            value: match args.width {
                sys::W4AXK_LATCHED => {
                    format!(
                        "fused at a latched width (family {}, M {})",
                        family(),
                        args.m
                    )
                }
                width => format!("quantized to {width} bits (family {})", family()),
            },
            range: "quantized: 2, 4 or 8 bits, any family but plain; fused at a latched width: \
                    decode up to 8 tokens; wgmma: fused only at 16 bits",
        }),
        // `extent` checked each extent.
        sys::W4AXK_BAD_SHAPE => Err(Error::Range {
            what: "M x N",
            value: format!("{} x {}", args.m, args.weight.n),
            range: "at most 2147483647 blocks of the kernel",
        }),
        sys::W4AXK_WORKSPACE_TOO_SMALL => {
            let mut needed = 0;
            // SAFETY: as in `LaunchPlan::of`.
            status::check("workspace_bytes", unsafe {
                sys::w4axk_workspace_bytes(args, &mut needed)
            })?;
            Err(workspace_too_small(
                needed as usize,
                args.workspace_bytes as usize,
            ))
        }
        status => status::check("gemm", status),
    }
}

pub(crate) fn workspace_too_small(needed: usize, got: usize) -> Error {
    Error::Buffer {
        what: "workspace bytes",
        needed,
        got,
    }
}
