//! What a caller requests of the choice of a kernel.

use crate::cuda::Family;
use crate::cuda::sys;

/// Options of a GEMM that select its kernel. The default leaves the choice to the
/// [`KernelTable`](crate::cuda::KernelTable).
///
/// ```
/// use w4ax::cuda::{Family, GemmOptions};
/// let options = GemmOptions::default().with_family(Family::Prefill).with_fused(false);
/// assert_eq!(options.family(), Some(Family::Prefill));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GemmOptions {
    family: Option<Family>,
    fused: Option<bool>,
    tile: Option<u32>,
    pdl: bool,
}

impl GemmOptions {
    /// Selects the family; `None` (the default) leaves it to the table.
    #[must_use]
    pub fn with_family(mut self, family: impl Into<Option<Family>>) -> Self {
        self.family = family.into();
        self
    }

    /// Quantizes activations inside the GEMM, in one launch (`true`), or in a launch before it
    /// (`false`); `None` (the default) leaves it to the table.
    ///
    /// `false` takes effect from 3 tokens on: with fewer, the GEMM always quantizes its input. The
    /// option has no effect on activations that are quantized already.
    #[must_use]
    pub fn with_fused(mut self, fused: impl Into<Option<bool>>) -> Self {
        self.fused = fused.into();
        self
    }

    /// Selects a tile variant, from 1 to [`Family::tiles`]; `None` (the default) leaves it to the
    /// table.
    #[must_use]
    pub fn with_tile(mut self, tile: impl Into<Option<u32>>) -> Self {
        self.tile = tile.into();
        self
    }

    /// Enables programmatic dependent launch: the kernel may start, and read weights, while the
    /// previous launch of the stream still runs. Off by default.
    ///
    /// It has no effect below sm_90, nor in a body that a [`RoutedGraph`](crate::cuda::RoutedGraph)
    /// or a [`SkipGraph`](crate::cuda::SkipGraph) captures. It must not be used at the first or
    /// last launch of a conditional body of a foreign graph.
    #[must_use]
    pub fn with_pdl(mut self, pdl: bool) -> Self {
        self.pdl = pdl;
        self
    }

    /// The requested family.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// Where activations are quantized ([`GemmOptions::with_fused`]).
    pub fn fused(&self) -> Option<bool> {
        self.fused
    }

    /// The requested tile variant.
    pub fn tile(&self) -> Option<u32> {
        self.tile
    }

    /// Whether programmatic dependent launch is enabled.
    pub fn pdl(&self) -> bool {
        self.pdl
    }

    /// Writes the options into the arguments of a GEMM. `quantized`: its activations are quantized
    /// already.
    pub(crate) fn write(&self, quantized: bool, args: &mut sys::w4axk_gemm_args) {
        args.family = self.family.map_or(sys::W4AXK_AUTO, Family::code);
        args.mode = sys::Mode::request(quantized, self.fused == Some(true));
        args.tile = self.tile.unwrap_or(0);
        args.flags = pdl_flag(self.pdl);
    }
}

/// The flag of programmatic dependent launch in the arguments of a kernel.
pub(crate) fn pdl_flag(pdl: bool) -> u32 {
    if pdl { sys::W4AXK_FLAG_PDL } else { 0 }
}
