//! Which kernel runs a GEMM where the caller does not say: a table of crossovers (`choices.csv`), and how it is read.

mod file;

use super::options::{Family, GemmOptions, Mode, group_code, mode_code};
use crate::cuda::sys;
use crate::{Grouping, Width};
use file::{Case, Row};
use std::sync::Arc;

pub use file::KernelTable;

/// What the table goes by of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceProps {
    /// Its compute capability: (8, 0) is sm_80.
    pub capability: (u32, u32),
    /// Whether it runs the kernels of [`Family::Wgmma`].
    pub wgmma: bool,
    /// Its multiprocessors.
    pub multiprocessors: u32,
}

impl DeviceProps {
    /// An A100, which a plan without a device is made for.
    pub const A100: Self = Self {
        capability: (8, 0),
        wgmma: false,
        multiprocessors: 108,
    };
}

/// A table for one device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceKernelTable {
    with_wgmma: Arc<Vec<Case>>,
    without: Arc<Vec<Case>>,
}

impl DeviceKernelTable {
    /// Fills in the family, mode and tile that `asked` leaves open. What no row speaks of stays open: the kernels' library then
    /// takes its first variant with room for the tokens.
    pub(crate) fn fill(&self, asked: &GemmOptions, args: &mut sys::w4axk_gemm_args) {
        let latched = args.width == sys::W4AXK_LATCHED;
        let bf16 = args.width == Width::Bf16.bits();
        let m = args.m as usize;
        // A tile's number means nothing without its family: wgmma's is named with it.
        let wgmma = match asked.family {
            Some(family) => family == Family::Wgmma,
            None => {
                asked.tile.is_none()
                    && !latched
                    && args.mode != sys::W4AXK_PACKED
                    && (bf16 || asked.fused != Some(true))
                    && (!bf16 || rows_aligned(args))
            }
        };
        let runs = |row: &Row| {
            asked.family.is_none_or(|family| family == row.family)
                // Its tile has room for the tokens that it was chosen for, and for the rest of their tile of 8.
                && (row.family != Family::Decode || m <= row.to_m.next_multiple_of(8))
        };
        let tables = [
            if wgmma { &self.with_wgmma[..] } else { &[] },
            &self.without[..],
        ];
        let Some(row) = tables.into_iter().find_map(|cases| find(cases, args, runs)) else {
            return;
        };
        args.family = row.family.code();
        args.tile = asked.tile.unwrap_or(row.tile);
        // At a latched width only the kernels' library knows which of its kernels quantize.
        let open = asked.fused.is_none() && args.mode == sys::W4AXK_MODE_AUTO;
        if row.mode == Mode::Fused && open && !latched && !bf16 {
            args.mode = mode_code(false, true);
        }
    }
}

/// Of the nearest shape the row for M, or the nearest to it, that can run.
fn find(cases: &[Case], args: &sys::w4axk_gemm_args, runs: impl Fn(&Row) -> bool) -> Option<Row> {
    let width = match args.width {
        2 | 4 => Width::A4,
        16 => Width::Bf16,
        // A latched width: what runs most often, or must be read for.
        _ => Width::A8,
    };
    let grouping = Grouping::ALL
        .into_iter()
        .find(|g| group_code(*g) == args.weight.group)?;
    let of = |grouping: Grouping| {
        cases
            .iter()
            .find(|c| (c.width, c.grouping) == (width, grouping))
    };
    let groups = || of(Grouping::G128).filter(|_| grouping != Grouping::PerChannel);
    let case = of(grouping).or_else(groups)?;
    let far = |a: usize, b: usize| (a as f32 / b as f32).log2().abs();
    let [m, n, k] = [args.m, args.weight.n, args.weight.k].map(|v| v as usize);
    let shape = (case.shapes.iter()).min_by(|a, b| {
        let [a, b] = [a, b].map(|s| 2.0 * far(s.n, n) + far(s.k, k));
        a.total_cmp(&b)
    })?;
    // Up to where the rows before it go, a row is at no distance.
    let mut from = 1;
    let mut nearest: Option<(f32, Row)> = None;
    for (i, row) in shape.rows.iter().enumerate() {
        let last = i + 1 == shape.rows.len();
        let away = if m < from {
            far(m, from)
        } else if m <= row.to_m || last {
            0.0
        } else {
            far(m, row.to_m)
        };
        if runs(row) && nearest.is_none_or(|(least, _)| away < least) {
            nearest = Some((away, *row));
        }
        from = row.to_m + 1;
    }
    nearest.map(|(_, row)| row)
}

/// Whether x has the rows that wgmma needs of BF16.
fn rows_aligned(args: &sys::w4axk_gemm_args) -> bool {
    (args.x as usize).is_multiple_of(16) && args.x_stride % 8 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
arch,sms,width,groups,n,k,to_m,family,mode,tile,share
sm_80,108,a8,g128,4096,4096,2,decode,fused,1,.5
sm_80,108,a8,g128,4096,4096,16,decode,packed,3,.5
# A line of words.
sm_80,108,a8,g128,4096,4096,64,prefill,packed,1,.5
sm_80,108,a8,g128,4096,4096,4096,prefill,packed,3,.5
sm_80,108,a8,g128,22016,4096,8,decode,fused,2,.5
sm_80,108,a8,g128,22016,4096,9,prefill,packed,2,.5
sm_80,16,a8,g128,4096,4096,1,prefill,packed,2,.5
sm_90,132,a8,g128,4096,4096,1,prefill,fused,3,.5
sm_90a,132,a8,g128,4096,4096,16,decode,packed,1,.5
sm_90a,132,a8,g128,4096,4096,4096,wgmma,packed,2,.5
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

    /// Family, mode and tile as the C side gets them.
    fn filled(
        chip: DeviceProps,
        asked: GemmOptions,
        mut args: sys::w4axk_gemm_args,
    ) -> (u32, u32, u32) {
        args.family = asked.family.map_or(sys::W4AXK_AUTO, Family::code);
        args.tile = asked.tile.unwrap_or(0);
        if args.mode == sys::W4AXK_MODE_AUTO {
            args.mode = mode_code(false, asked.fused == Some(true));
        }
        let table = KernelTable::parse("table", TABLE).expect("a good table");
        table.of(&chip).fill(&asked, &mut args);
        (args.family, args.mode, args.tile)
    }

    const DECODE: u32 = sys::W4AXK_DECODE;
    const PREFILL: u32 = sys::W4AXK_PREFILL;
    const WGMMA: u32 = sys::W4AXK_WGMMA;
    const AUTO: u32 = sys::W4AXK_MODE_AUTO;
    const FUSED: u32 = sys::W4AXK_FUSED;
    const PACKED: u32 = sys::W4AXK_PACKED;

    #[test]
    fn the_row_of_the_nearest_shape_and_of_m() {
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
        // Another chip of the same architecture, an older and a newer architecture than any of the table.
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
        // No row of this width: nothing is filled in.
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
    fn what_is_asked_for_stays() {
        let asked = |family, fused, tile| GemmOptions {
            family,
            fused,
            tile,
            pdl: false,
        };
        let prefill = Some(Family::Prefill);
        // The nearest row of that family; a decode tile with room for M, or else none.
        assert_eq!(
            filled(A100, asked(prefill, None, None), args(1, 4096)),
            (PREFILL, AUTO, 1)
        );
        assert_eq!(
            filled(
                A100,
                asked(Some(Family::Decode), None, None),
                args(9, 20_000)
            ),
            (DECODE, AUTO, 0)
        );
        assert_eq!(
            filled(A100, asked(Some(Family::Plain), None, None), args(9, 4096)),
            (sys::W4AXK_PLAIN, AUTO, 0)
        );
        assert_eq!(
            filled(A100, asked(None, None, Some(2)), args(1, 4096)),
            (DECODE, FUSED, 2)
        );
        assert_eq!(
            filled(A100, asked(None, Some(false), None), args(8, 20_000)),
            (DECODE, AUTO, 2)
        );
        assert_eq!(
            filled(A100, asked(None, Some(true), None), args(9, 4096)),
            (DECODE, FUSED, 3)
        );
        let packed = sys::w4axk_gemm_args {
            mode: PACKED,
            ..args(8, 20_000)
        };
        assert_eq!(
            filled(A100, asked(None, None, None), packed),
            (DECODE, PACKED, 2)
        );
        let latched = sys::w4axk_gemm_args {
            width: sys::W4AXK_LATCHED,
            ..args(8, 20_000)
        };
        assert_eq!(
            filled(A100, asked(None, None, None), latched),
            (DECODE, AUTO, 2)
        );
    }

    /// Where wgmma cannot run, the rows without it count.
    #[test]
    fn wgmma_only_where_it_runs() {
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
        for asked in [
            GemmOptions {
                fused: Some(true),
                ..none
            },
            GemmOptions {
                tile: Some(3),
                ..none
            },
            GemmOptions {
                family: Some(Family::Prefill),
                ..none
            },
        ] {
            assert_eq!(
                filled(H100, asked, args(17, 4096)),
                (PREFILL, FUSED, 3),
                "{asked:?}"
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
        assert_eq!(filled(H100, none, latched).0, PREFILL);
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
