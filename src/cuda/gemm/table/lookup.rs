//! The kernel of a GEMM, looked up in the table of a device.

use super::rows::{Case, Groups, Row};
use crate::cuda::gemm::options::GemmOptions;
use crate::cuda::sys::enums::{grouping_code, width_of};
use crate::cuda::sys::{self, Family, Mode};
use crate::{Grouping, Width};
use std::sync::Arc;

/// The rows of a [`KernelTable`](super::KernelTable) for one device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceKernelTable {
    pub(super) with_wgmma: Arc<Vec<Case>>,
    pub(super) without: Arc<Vec<Case>>,
}

impl DeviceKernelTable {
    /// Fills in the family, mode and tile that `requested` leaves open.
    ///
    /// What no row covers stays open: the kernel library then takes its first variant that supports
    /// the tokens.
    pub(crate) fn fill(&self, requested: &GemmOptions, args: &mut sys::w4axk_gemm_args) {
        let width = width_of(args.width).ok().flatten();
        let latched = args.width == sys::W4AXK_LATCHED;
        let bf16 = width == Some(Width::Bf16);
        let m = args.m as usize;
        // The number of a tile depends on its family, so a requested tile excludes wgmma unless it
        // is requested too.
        let wgmma = match requested.family() {
            Some(family) => family == Family::Wgmma,
            None => {
                requested.tile().is_none()
                    && args.mode != sys::W4AXK_PACKED
                    && (bf16 || requested.fused() != Some(true))
                    && (!(bf16 || latched) || rows_aligned(args))
            }
        };
        let runs = |row: &Row| {
            (requested.family()).is_none_or(|family| family == row.family)
                // A decode tile supports the tokens of its row, rounded up to a multiple of 8.
                && (row.family != Family::Decode || m <= row.to_m.next_multiple_of(8))
        };
        let tables = [
            if wgmma { &self.with_wgmma[..] } else { &[] },
            &self.without[..],
        ];
        let Some(row) = tables
            .into_iter()
            .find_map(|cases| find(cases, width, args, runs))
        else {
            return;
        };
        args.family = row.family.code();
        // The wgmma tiles of 256 channels, 3 and 4, have no routed kernels: 1 and 2 take as many
        // tokens.
        let tile = match row.tile {
            tile @ 3.. if latched && row.family == Family::Wgmma => tile - 2,
            tile => tile,
        };
        args.tile = requested.tile().unwrap_or(tile);
        // At a latched width, only the kernel library knows which of its kernels quantize.
        let open = requested.fused().is_none() && args.mode == sys::W4AXK_MODE_AUTO;
        if row.mode == Mode::Fused && open && !latched && !bf16 {
            args.mode = Mode::request(false, true);
        }
    }
}

/// Returns the row for M in the nearest shape, or the nearest row to it that can run.
fn find(
    cases: &[Case],
    width: Option<Width>,
    args: &sys::w4axk_gemm_args,
    runs: impl Fn(&Row) -> bool,
) -> Option<Row> {
    let width = match width {
        Some(Width::A2 | Width::A4) => Width::A4,
        Some(Width::Bf16) => Width::Bf16,
        // A latched width: A8 reads the most of the quantized widths.
        _ => Width::A8,
    };
    let per_channel = Groups::Grouped(Grouping::PerChannel);
    let groups = match args.weight.scheme {
        sys::W4AXK_TWO_LEVEL => Groups::TwoLevel,
        _ => Grouping::ALL
            .into_iter()
            .find(|g| grouping_code(*g) == args.weight.group)
            .map(Groups::Grouped)?,
    };
    let of = |groups: Groups| (cases.iter()).find(|c| (c.width, c.groups) == (width, groups));
    let similar = match groups {
        // Both accumulate over whole rows.
        Groups::TwoLevel => Some(per_channel),
        _ if groups == per_channel => None,
        _ => Some(Groups::Grouped(Grouping::G128)),
    };
    let case = of(groups).or_else(|| of(similar?))?;
    let distance = |a: usize, b: usize| (a as f32 / b as f32).log2().abs();
    let [m, n, k] = [args.m, args.weight.n, args.weight.k].map(|v| v as usize);
    let shape = (case.shapes.iter()).min_by(|a, b| {
        let [a, b] = [a, b].map(|s| 2.0 * distance(s.n, n) + distance(s.k, k));
        a.total_cmp(&b)
    })?;
    // A row covers the M from the end of the row before it, at distance 0.
    let mut from = 1;
    let mut nearest: Option<(f32, Row)> = None;
    for (i, row) in shape.rows.iter().enumerate() {
        let last = i + 1 == shape.rows.len();
        let away = if m < from {
            distance(m, from)
        } else if m <= row.to_m || last {
            0.0
        } else {
            distance(m, row.to_m)
        };
        if runs(row) && nearest.is_none_or(|(least, _)| away < least) {
            nearest = Some((away, *row));
        }
        from = row.to_m + 1;
    }
    nearest.map(|(_, row)| row)
}

/// Whether BF16 rows of x have the alignment that wgmma needs.
fn rows_aligned(args: &sys::w4axk_gemm_args) -> bool {
    (args.x as usize).is_multiple_of(16) && args.x_stride % 8 == 0
}

#[cfg(test)]
mod tests {
    use super::super::{DeviceProps, KernelTable};
    use super::*;

    const TABLE: &str = "\
arch,sms,width,groups,n,k,to_m,family,mode,tile,share
sm_80,108,a8,g128,4096,4096,2,decode,fused,1,.5
sm_80,108,a8,g128,4096,4096,16,decode,packed,3,.5
# A comment.
sm_80,108,a8,g128,4096,4096,64,prefill,packed,1,.5
sm_80,108,a8,g128,4096,4096,4096,prefill,packed,3,.5
sm_80,108,a8,g128,22016,4096,8,decode,fused,2,.5
sm_80,108,a8,g128,22016,4096,9,prefill,packed,2,.5
sm_80,16,a8,g128,4096,4096,1,prefill,packed,2,.5
sm_90,132,a8,g128,4096,4096,1,prefill,fused,3,.5
sm_90a,132,a8,g128,4096,4096,16,decode,packed,1,.5
sm_90a,132,a8,g128,4096,4096,4096,wgmma,packed,2,.5
sm_90a,132,a8,channel,4096,4096,4096,wgmma,packed,4,.5
sm_90a,132,bf16,g128,4096,4096,4096,wgmma,fused,1,.5
sm_90,132,bf16,g128,4096,4096,4096,prefill,fused,2,.5
";

    const A100: DeviceProps = DeviceProps::A100;
    const H100: DeviceProps = DeviceProps {
        capability: (9, 0),
        wgmma: true,
        multiprocessors: 132,
    };

    fn args(m: u32, n: u32) -> sys::w4axk_gemm_args {
        sys::w4axk_gemm_args {
            weight: sys::w4axk_weight {
                n,
                k: 4096,
                group: sys::W4AXK_G64,
                ..Default::default()
            },
            x_stride: 4096,
            m,
            width: 8,
            ..Default::default()
        }
    }

    /// Family, mode and tile as the kernel library receives them.
    fn filled(
        props: DeviceProps,
        requested: GemmOptions,
        mut args: sys::w4axk_gemm_args,
    ) -> (u32, u32, u32) {
        let quantized = args.mode == PACKED;
        requested.write(quantized, &mut args);
        let table = KernelTable::parse("table", TABLE).expect("a valid table");
        table.for_device(&props).fill(&requested, &mut args);
        (args.family, args.mode, args.tile)
    }

    const DECODE: u32 = sys::W4AXK_DECODE;
    const PREFILL: u32 = sys::W4AXK_PREFILL;
    const WGMMA: u32 = sys::W4AXK_WGMMA;
    const AUTO: u32 = sys::W4AXK_MODE_AUTO;
    const FUSED: u32 = sys::W4AXK_FUSED;
    const PACKED: u32 = sys::W4AXK_PACKED;

    #[test]
    fn selects_row_of_nearest_shape_and_m() {
        let none = GemmOptions::default();
        for (m, n, expected) in [
            (1, 4096, (DECODE, FUSED, 1)),
            (2, 4096, (DECODE, FUSED, 1)),
            (3, 4096, (DECODE, AUTO, 3)),
            (16, 4096, (DECODE, AUTO, 3)),
            (17, 4096, (PREFILL, AUTO, 1)),
            (65, 4096, (PREFILL, AUTO, 3)),
            (100_000, 4096, (PREFILL, AUTO, 3)),
            (1, 100, (DECODE, FUSED, 1)),
            (8, 20_000, (DECODE, FUSED, 2)),
            (9, 20_000, (PREFILL, AUTO, 2)),
            (5000, 20_000, (PREFILL, AUTO, 2)),
        ] {
            assert_eq!(filled(A100, none, args(m, n)), expected, "M {m} N {n}");
        }
        // A smaller device of the same architecture, then devices between and above the
        // architectures of the table.
        let small = DeviceProps {
            multiprocessors: 14,
            ..A100
        };
        assert_eq!(filled(small, none, args(1, 4096)), (PREFILL, AUTO, 2));
        let ada = DeviceProps {
            capability: (8, 9),
            ..A100
        };
        assert_eq!(filled(ada, none, args(1, 4096)), (DECODE, FUSED, 1));
        let blackwell = DeviceProps {
            capability: (12, 0),
            ..A100
        };
        assert_eq!(filled(blackwell, none, args(1, 4096)), (PREFILL, FUSED, 3));
        // The table has no row of this width, so nothing is filled in.
        assert_eq!(
            filled(
                A100,
                none,
                sys::w4axk_gemm_args {
                    width: 16,
                    ..args(1, 4096)
                }
            ),
            (0, AUTO, 0)
        );
    }

    #[test]
    fn keeps_requested_options() {
        let requested = |family: Option<Family>, fused: Option<bool>, tile: Option<u32>| {
            GemmOptions::default()
                .with_family(family)
                .with_fused(fused)
                .with_tile(tile)
        };
        let prefill = Some(Family::Prefill);
        // The nearest row of the family. A decode tile must support M; otherwise nothing is filled
        // in.
        assert_eq!(
            filled(A100, requested(prefill, None, None), args(1, 4096)),
            (PREFILL, AUTO, 1)
        );
        assert_eq!(
            filled(
                A100,
                requested(Some(Family::Decode), None, None),
                args(9, 20_000)
            ),
            (DECODE, AUTO, 0)
        );
        assert_eq!(
            filled(
                A100,
                requested(Some(Family::Plain), None, None),
                args(9, 4096)
            ),
            (sys::W4AXK_PLAIN, AUTO, 0)
        );
        assert_eq!(
            filled(A100, requested(None, None, Some(2)), args(1, 4096)),
            (DECODE, FUSED, 2)
        );
        assert_eq!(
            filled(A100, requested(None, Some(false), None), args(8, 20_000)),
            (DECODE, AUTO, 2)
        );
        assert_eq!(
            filled(A100, requested(None, Some(true), None), args(9, 4096)),
            (DECODE, FUSED, 3)
        );
        let packed = sys::w4axk_gemm_args {
            mode: PACKED,
            ..args(8, 20_000)
        };
        assert_eq!(
            filled(A100, requested(None, None, None), packed),
            (DECODE, PACKED, 2)
        );
        let latched = sys::w4axk_gemm_args {
            width: sys::W4AXK_LATCHED,
            ..args(8, 20_000)
        };
        assert_eq!(
            filled(A100, requested(None, None, None), latched),
            (DECODE, AUTO, 2)
        );
    }

    /// Where wgmma cannot run, the rows without it are used.
    #[test]
    fn selects_wgmma_only_where_it_can_run() {
        let none = GemmOptions::default();
        assert_eq!(filled(H100, none, args(17, 4096)), (WGMMA, AUTO, 2));
        assert_eq!(
            filled(
                DeviceProps {
                    wgmma: false,
                    ..H100
                },
                none,
                args(17, 4096)
            ),
            (PREFILL, FUSED, 3)
        );
        for requested in [
            none.with_fused(true),
            none.with_tile(3),
            none.with_family(Family::Prefill),
        ] {
            assert_eq!(
                filled(H100, requested, args(17, 4096)),
                (PREFILL, FUSED, 3),
                "{requested:?}"
            );
        }
        let packed = sys::w4axk_gemm_args {
            mode: PACKED,
            ..args(17, 4096)
        };
        assert_eq!(filled(H100, none, packed), (PREFILL, PACKED, 3));
        let latched = sys::w4axk_gemm_args {
            width: sys::W4AXK_LATCHED,
            ..args(17, 4096)
        };
        assert_eq!(filled(H100, none, latched), (WGMMA, AUTO, 2));
        let odd = sys::w4axk_gemm_args {
            x_stride: 4100,
            ..latched
        };
        assert_eq!(filled(H100, none, odd).0, PREFILL);
        // A block of 256 channels has no routed kernel.
        let channels = |args: sys::w4axk_gemm_args| sys::w4axk_gemm_args {
            weight: sys::w4axk_weight {
                group: sys::W4AXK_PER_CHANNEL,
                ..args.weight
            },
            ..args
        };
        assert_eq!(
            filled(H100, none, channels(args(17, 4096))),
            (WGMMA, AUTO, 4)
        );
        assert_eq!(filled(H100, none, channels(latched)), (WGMMA, AUTO, 2));
        let bf16 = sys::w4axk_gemm_args {
            width: 16,
            ..args(17, 4096)
        };
        assert_eq!(filled(H100, none, bf16), (WGMMA, AUTO, 1));
        for odd in [
            sys::w4axk_gemm_args {
                x: 8 as *const _,
                ..bf16
            },
            sys::w4axk_gemm_args {
                x_stride: 4100,
                ..bf16
            },
        ] {
            assert_eq!(filled(H100, none, odd), (PREFILL, AUTO, 2));
        }
    }
}
