//! Which kernel: what can be asked for, and what comes of it.

use super::activations::OperandLayout;
use super::table::{DeviceKernelTable, DeviceProps, KernelTable};
use crate::cuda::sys::{self, status};
use crate::weights::MAX_PER_CHANNEL_K;
use crate::{Error, Grouping, Result, ScaleType, Width};

/// A family of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// At most [`Family::DECODE_MAX_M`] tokens: streams the weights past them.
    Decode,
    /// Any number of tokens.
    Prefill,
    /// Any number of tokens, one thread an output: slow and obvious, the oracle of the others on a device.
    Plain,
    /// Any number of tokens, on sm_90 with code for sm_90a ([`crate::cuda::Gpu::has_family`]): TMA copies and warpgroup mma. Activations
    /// are quantized by a launch before the GEMM; BF16 ones that stay so must have rows that are aligned to 16 bytes. No kernel
    /// of it is routed.
    Wgmma,
}

impl Family {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Decode, Self::Prefill, Self::Plain, Self::Wgmma];

    /// The most tokens that the decode family takes.
    pub const DECODE_MAX_M: usize = 16;

    /// How the packed activations lie that its kernels read; `None`: they read none.
    pub const fn packed_layout(self) -> Option<OperandLayout> {
        match self {
            Self::Decode | Self::Prefill => Some(OperandLayout::Fragments),
            Self::Wgmma => Some(OperandLayout::CoreMatrices),
            Self::Plain => None,
        }
    }

    /// Its tile variants: 1 to this. 0 in a build without kernels.
    pub fn tiles(self) -> u32 {
        // SAFETY: a pure function of a number.
        unsafe { sys::w4axk_tile_count(self.code()) }
    }

    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Decode => sys::W4AXK_DECODE,
            Self::Prefill => sys::W4AXK_PREFILL,
            Self::Plain => sys::W4AXK_PLAIN,
            Self::Wgmma => sys::W4AXK_WGMMA,
        }
    }

    pub(crate) fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.code() == code)
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Decode => "decode",
            Self::Prefill => "prefill",
            Self::Plain => "plain",
            Self::Wgmma => "wgmma",
        })
    }
}

/// How a kernel comes by quantized activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It reads BF16, and quantizes what it reads itself (or leaves it BF16).
    Fused,
    /// It reads what `quantize_pack` wrote.
    Packed,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Fused => "fused",
            Self::Packed => "packed",
        })
    }
}

/// What multiplies: the instruction that the loaded code really holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mma {
    /// None: scalar code.
    None,
    /// `mma` of s4 by u4 into s32: A4 and A2 on sm_80 to sm_89.
    S4,
    /// `mma` of s8 by u8 into s32.
    S8,
    /// `mma` of bf16 into f32.
    Bf16,
    /// A routed kernel: at each width what the family's kernel of that width has.
    Routed,
    /// `wgmma` of s8 by u8 into s32: A2, A4 and A8.
    WgmmaS8,
    /// `wgmma` of bf16 into f32.
    WgmmaBf16,
}

impl Mma {
    pub(crate) fn of(code: u32) -> Result<Self> {
        match code {
            sys::W4AXK_MMA_NONE => Ok(Self::None),
            sys::W4AXK_MMA_S4 => Ok(Self::S4),
            sys::W4AXK_MMA_S8 => Ok(Self::S8),
            sys::W4AXK_MMA_BF16 => Ok(Self::Bf16),
            sys::W4AXK_MMA_ROUTED => Ok(Self::Routed),
            sys::W4AXK_MMA_WGMMA_S8 => Ok(Self::WgmmaS8),
            sys::W4AXK_MMA_WGMMA_BF16 => Ok(Self::WgmmaBf16),
            _ => Err(unknown("mma", code)),
        }
    }
}

impl std::fmt::Display for Mma {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::S4 => "s4",
            Self::S8 => "s8",
            Self::Bf16 => "bf16",
            Self::Routed => "routed",
            Self::WgmmaS8 => "wgmma s8",
            Self::WgmmaBf16 => "wgmma bf16",
        })
    }
}

/// A number of the C side that this crate does not know.
fn unknown(call: &'static str, code: u32) -> Error {
    Error::Cuda {
        call,
        reason: format!("the kernels' library answers the unknown value {code}"),
    }
}

/// Which kernel runs a GEMM. The default leaves all of it to the table ([`KernelTable`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GemmOptions {
    /// The family; `None`: by the table.
    pub family: Option<Family>,
    /// Quantize inside of the GEMM, in one launch (`true`), or run `quantize_pack` first (`false`, from 3 tokens on: below, a
    /// GEMM always quantizes what it reads); `None`: by the table. Means nothing for activations that are packed already.
    pub fused: Option<bool>,
    /// The tile variant, from 1 to [`Family::tiles`]; `None`: by the table.
    pub tile: Option<u32>,
    /// Programmatic dependent launch: the kernel may start, and read weights, while the launch before it in the stream
    /// still runs. Means nothing below sm_90, nor in a body that a [`crate::cuda::RoutedGraph`] or [`crate::cuda::SkipGraph`] captures; it must not stand
    /// at the edge of anybody else's conditional body.
    pub pdl: bool,
}

impl GemmOptions {
    pub(crate) fn flags(&self) -> u32 {
        if self.pdl { sys::W4AXK_FLAG_PDL } else { 0 }
    }
}

/// A GEMM by its numbers alone, to ask what would run. Needs no device.
///
/// ```
/// use w4ax::cuda::{DeviceProps, GemmOptions, Problem};
/// use w4ax::{Grouping, Width};
/// let problem = Problem {
///     m: 1,
///     n: 4096,
///     k: 4096,
///     width: Width::A4,
///     latched: false,
///     grouping: Grouping::G128,
///     packed: false,
///     options: GemmOptions::default(),
/// };
/// match problem.plan_for(&DeviceProps::A100) {
///     Ok(plan) => println!("{plan}"),
///     Err(error) => println!("{error}"), // Built without kernels.
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Tokens.
    pub m: usize,
    /// Output channels.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// The width of the activations.
    pub width: Width,
    /// The width comes from a latch instead: a routed kernel, whatever `width` is.
    pub latched: bool,
    /// How weight scales are shared.
    pub grouping: Grouping,
    /// Whether the activations are packed already: for the wgmma family if `options` name it, else for decode and prefill.
    pub packed: bool,
    /// What is asked for.
    pub options: GemmOptions,
}

impl Problem {
    /// What would run on an A100, with rows of x and y that are aligned to 16 bytes.
    ///
    /// # Errors
    /// [`Error::Range`] for an extent, family or tile that there is not; [`Error::Unavailable`] in a build without kernels.
    pub fn plan(&self) -> Result<Plan> {
        self.plan_for(&DeviceProps::A100)
    }

    /// What would run on such a device, by the library's own table; it need not be there.
    ///
    /// # Errors
    /// As [`Problem::plan`].
    pub fn plan_for(&self, chip: &DeviceProps) -> Result<Plan> {
        // The number of no device.
        self.plan_on(-1, &KernelTable::built_in().of(chip))
    }

    /// Bytes of workspace that are enough for it on every device and whatever a table picks, for fewer tokens and narrower widths as well, for
    /// any N and for fewer inputs. Often 0.
    ///
    /// # Errors
    /// As [`Problem::plan`].
    pub fn workspace_bytes(&self) -> Result<usize> {
        let asked = self.options;
        let own = self.plan()?.workspace_bytes;
        if self.packed || asked.fused == Some(true) {
            return Ok(own);
        }
        let bytes = |family| -> Result<usize> {
            let options = GemmOptions {
                family,
                fused: Some(false),
                ..asked
            };
            Ok(Self { options, ..*self }.plan()?.workspace_bytes)
        };
        let most = own.max(bytes(asked.family)?);
        // What a device that has it may pick instead.
        let wgmma = asked.family.is_none() && asked.tile.is_none() && !self.latched && self.m > 2;
        Ok(if wgmma {
            most.max(bytes(Some(Family::Wgmma))?)
        } else {
            most
        })
    }

    /// What would run on a device of that number.
    pub(crate) fn plan_on(&self, device: i32, choices: &DeviceKernelTable) -> Result<Plan> {
        let n = extent("N", self.n)?;
        let k = inputs(self.k, self.grouping)?;
        let mut args = sys::w4axk_gemm_args {
            weight: sys::w4axk_weight {
                n,
                k,
                group: group_code(self.grouping),
                scale_type: sys::W4AXK_SCALE_F32,
                ..Default::default()
            },
            // Multiples of 8: rows that stay aligned to 16 bytes.
            x_stride: i64::from(k.next_multiple_of(8)),
            y_stride: i64::from(n.next_multiple_of(8)),
            m: extent("M", self.m)?,
            width: if self.latched {
                sys::W4AXK_LATCHED
            } else {
                self.width.bits()
            },
            family: self.options.family.map_or(sys::W4AXK_AUTO, Family::code),
            mode: mode_code(self.packed, self.options.fused == Some(true)),
            tile: self.options.tile.unwrap_or(0),
            flags: self.options.flags(),
            device,
            ..Default::default()
        };
        choices.fill(&self.options, &mut args);
        Plan::of(&args)
    }
}

/// What a GEMM will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The family.
    pub family: Family,
    /// Whether the GEMM's kernel reads BF16 or packed activations.
    pub mode: Mode,
    /// The tile variant.
    pub tile: u32,
    /// 2 if `quantize_pack` runs before the GEMM, into the workspace.
    pub launches: u32,
    /// The GEMM's kernel, such as `decode_a4_g128_fused_16x8`.
    pub kernel: &'static str,
    /// Output channels of a block.
    pub tile_n: usize,
    /// Tokens of a block.
    pub tile_m: usize,
    /// Blocks of the GEMM.
    pub blocks: usize,
    /// Bytes of workspace that it needs.
    pub workspace_bytes: usize,
    /// x is read element by element, because its rows are not aligned.
    pub slow_x: bool,
    /// y is written element by element, because its rows are not aligned.
    pub slow_y: bool,
}

impl Plan {
    pub(crate) fn of(args: &sys::w4axk_gemm_args) -> Result<Self> {
        let mut plan = sys::w4axk_plan::default();
        // SAFETY: two structures that live for the call; it launches nothing and follows no pointer in them.
        let status = unsafe { sys::w4axk_plan_gemm(args, &mut plan) };
        check_gemm(args, status)?;
        Ok(Self {
            family: Family::of(plan.family).ok_or_else(|| unknown("family", plan.family))?,
            mode: match plan.mode {
                sys::W4AXK_FUSED => Mode::Fused,
                sys::W4AXK_PACKED => Mode::Packed,
                mode => return Err(unknown("mode", mode)),
            },
            tile: plan.tile,
            launches: plan.launches,
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
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.launches > 1 {
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

/// A GEMM's status; those that arguments of the safe side can cause name the argument.
pub(crate) fn check_gemm(args: &sys::w4axk_gemm_args, status: sys::w4axk_status) -> Result<()> {
    let family = || Family::of(args.family).map_or("any".into(), |f| f.to_string());
    match status {
        sys::W4AXK_BAD_FAMILY => Err(Error::Range {
            what: "M of the decode family",
            value: args.m.to_string(),
            range: "1..=16",
        }),
        sys::W4AXK_BAD_TILE => Err(Error::Range {
            what: "tile",
            value: format!("{} (family {}, M {})", args.tile, family(), args.m),
            range: "the tile variants of the family that take this M on this device",
        }),
        sys::W4AXK_BAD_MODE => Err(Error::Range {
            what: "mode of the activations",
            value: if args.width == sys::W4AXK_LATCHED {
                format!(
                    "fused at a latched width, family {}, M {}",
                    family(),
                    args.m
                )
            } else {
                format!("packed at {} bits, family {}", args.width, family())
            },
            range: "packed: 2, 4 or 8 bits, not plain; fused at a latched width: decode up to 8 tokens; wgmma: one width, and not \
                    fused if it is quantized",
        }),
        // Each extent is in its range, as `extent` has seen.
        sys::W4AXK_BAD_SHAPE => Err(Error::Range {
            what: "M x N",
            value: format!("{} x {}", args.m, args.weight.n),
            range: "at most 2147483647 blocks of the kernel",
        }),
        sys::W4AXK_WORKSPACE_TOO_SMALL => {
            let mut needed = 0;
            // SAFETY: as in `Plan::of`.
            status::check("workspace_bytes", unsafe {
                sys::w4axk_workspace_bytes(args, &mut needed)
            })?;
            Err(Error::Buffer {
                what: "workspace bytes",
                needed: needed as usize,
                got: args.workspace_bytes as usize,
            })
        }
        status => status::check("gemm", status),
    }
}

/// M, N or K as the C side takes it.
pub(crate) fn extent(what: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|v| (1..=8_388_608).contains(v))
        .ok_or_else(|| Error::Range {
            what,
            value: value.to_string(),
            range: "1..=8388608",
        })
}

/// K as the C side takes it, with weights of that grouping.
pub(crate) fn inputs(k: usize, grouping: Grouping) -> Result<u32> {
    if grouping == Grouping::PerChannel && k > MAX_PER_CHANNEL_K {
        return Err(Error::Range {
            what: "K of a per-channel weight",
            value: k.to_string(),
            range: "1..=65536",
        });
    }
    extent("K", k)
}

/// A row stride as the C side takes it.
pub(crate) fn stride(what: &'static str, value: usize) -> Result<i64> {
    i64::try_from(value)
        .ok()
        .filter(|&v| v <= i64::from(sys::W4AXK_MAX_STRIDE))
        .ok_or_else(|| Error::Range {
            what,
            value: value.to_string(),
            range: "0..=536870912",
        })
}

pub(crate) const fn group_code(grouping: Grouping) -> u32 {
    match grouping {
        Grouping::G32 => sys::W4AXK_G32,
        Grouping::G64 => sys::W4AXK_G64,
        Grouping::G128 => sys::W4AXK_G128,
        Grouping::PerChannel => sys::W4AXK_PER_CHANNEL,
    }
}

pub(crate) const fn scale_code(scale_type: ScaleType) -> u32 {
    match scale_type {
        ScaleType::F32 => sys::W4AXK_SCALE_F32,
        ScaleType::F16 => sys::W4AXK_SCALE_F16,
        ScaleType::Bf16 => sys::W4AXK_SCALE_BF16,
    }
}

pub(crate) const fn mode_code(packed: bool, fused: bool) -> u32 {
    match (packed, fused) {
        (true, _) => sys::W4AXK_PACKED,
        (false, true) => sys::W4AXK_FUSED,
        (false, false) => sys::W4AXK_MODE_AUTO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_header() {
        assert_eq!(Family::DECODE_MAX_M, sys::W4AXK_DECODE_MAX_M as usize);
        assert_eq!(sys::W4AXK_MAX_EXTENT, 8_388_608);
        assert_eq!(sys::W4AXK_MAX_STRIDE, 536_870_912);
        assert_eq!(
            sys::W4AXK_MAX_CHANNEL_K as usize,
            crate::weights::MAX_PER_CHANNEL_K
        );
        for grouping in Grouping::ALL {
            assert_eq!(group_code(grouping) as usize, grouping.size().unwrap_or(0));
        }
        for family in Family::ALL {
            assert_eq!(Family::of(family.code()), Some(family));
        }
        assert_eq!(Family::of(sys::W4AXK_AUTO), None);
    }

    #[test]
    fn extents_are_checked() {
        assert_eq!(extent("M", 1).unwrap(), 1);
        for value in [0, 8_388_609, usize::MAX] {
            assert!(stride("x", value).is_ok() == (value < 536_870_913));
            assert!(matches!(
                extent("M", value),
                Err(Error::Range { what: "M", .. })
            ));
        }
        assert!(inputs(65_537, Grouping::G32).is_ok());
        assert!(inputs(65_536, Grouping::PerChannel).is_ok());
        let long = inputs(65_537, Grouping::PerChannel);
        assert!(matches!(long, Err(Error::Range { .. })));
    }
}
