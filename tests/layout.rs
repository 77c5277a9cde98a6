//! The packed tile against the fragments of three tensor-core instructions, as the PTX ISA defines
//! them, computed on the CPU.

use test_support as support;

use half::bf16;
use rand::Rng;
use support::{PlainWeight, rng};
use w4ax::weights::layout::{Tile, activation_position};
use w4ax::{Grouping, ScaleType};

type Matrix<T> = Vec<Vec<T>>;

/// `mma.m16n8k(8e)`, row.col, from fragments with `e` elements a register (PTX ISA, "Matrix
/// fragments for mma"): a_i of register r is `A[g + 8*(r & 1)][t*e + i + 4*e*(r >> 1)]`, b_i of
/// register r is `B[t*e + i + 4*e*r][g]`.
fn mma<T: Copy + Into<f64>>(e: usize, a: &[Matrix<T>], b: &[Matrix<T>], d: &mut [[f64; 8]; 16]) {
    let mut am = vec![vec![0f64; 8 * e]; 16];
    let mut bm = vec![vec![0f64; 8]; 8 * e];
    for lane in 0..32 {
        let (g, t) = (lane >> 2, lane & 3);
        for (r, register) in a[lane].iter().enumerate() {
            for (i, &v) in register.iter().enumerate() {
                am[g + 8 * (r & 1)][t * e + i + 4 * e * (r >> 1)] = v.into();
            }
        }
        for (r, register) in b[lane].iter().enumerate() {
            for (i, &v) in register.iter().enumerate() {
                bm[t * e + i + 4 * e * r][g] = v.into();
            }
        }
    }
    for (m, row) in d.iter_mut().enumerate() {
        for (n, d) in row.iter_mut().enumerate() {
            *d += am[m].iter().zip(&bm).map(|(a, b)| a * b[n]).sum::<f64>();
        }
    }
}

/// One tile, 8 tokens of 64 codes, and their product over k in a range.
struct Case {
    tile: Tile,
    q: Vec<i8>,
    codes: Vec<[u8; 64]>,
}

impl Case {
    fn new(bits: u32) -> Self {
        let rng = &mut rng(7);
        let plain = PlainWeight::random(rng, (16, 64), Grouping::G64, ScaleType::F32, true);
        let codes =
            (0..8).map(|_| std::array::from_fn(|_| rng.random_range(0..1u32 << bits) as u8));
        Self {
            tile: plain.pack().tiles()[0],
            codes: codes.collect(),
            q: plain.q,
        }
    }

    fn product(&self, range: std::ops::Range<usize>) -> [[f64; 8]; 16] {
        std::array::from_fn(|m| {
            std::array::from_fn(|n| {
                range
                    .clone()
                    .map(|k| f64::from(self.q[m * 64 + k]) * f64::from(self.codes[n][k]))
                    .sum()
            })
        })
    }

    fn word(&self, lane: usize, r: usize) -> u32 {
        self.tile.0[4 * lane + r]
    }
}

fn signed4(word: u32) -> Vec<i16> {
    (0..8)
        .map(|i| i16::from(((word >> (4 * i)) << 4) as u8 as i8 >> 4))
        .collect()
}

fn signed8(word: u32) -> Vec<i16> {
    word.to_le_bytes()
        .iter()
        .map(|&b| i16::from(b as i8))
        .collect()
}

/// The k of nibble i of register r in lane t, by the formula of the layout.
fn k_of(t: usize, r: usize, i: usize) -> usize {
    32 * (r >> 1) + 16 * ((i >> 1) & 1) + 8 * (i & 1) + 2 * t + (i >> 2)
}

/// s4: m16n8k64 uses the registers unchanged; for group 32, m16n8k32 uses two of them.
#[test]
fn s4_uses_registers_unchanged() {
    let case = Case::new(4);
    let a = |registers: &[usize]| -> Vec<Matrix<i16>> {
        (0..32)
            .map(|lane| {
                registers
                    .iter()
                    .map(|&r| signed4(case.word(lane, r)))
                    .collect()
            })
            .collect()
    };
    let b = |halves: &[usize]| -> Vec<Matrix<i16>> {
        let codes = |lane: usize, half: usize| {
            (0..8)
                .map(|i| i16::from(case.codes[lane >> 2][k_of(lane & 3, 2 * half, i)]))
                .collect()
        };
        (0..32)
            .map(|lane| halves.iter().map(|&h| codes(lane, h)).collect())
            .collect()
    };
    let mut d = [[0.0; 8]; 16];
    mma(8, &a(&[0, 1, 2, 3]), &b(&[0, 1]), &mut d);
    assert_eq!(d, case.product(0..64));
    for half in 0..2 {
        let mut d = [[0.0; 8]; 16];
        mma(8, &a(&[2 * half, 2 * half + 1]), &b(&[half]), &mut d);
        assert_eq!(d, case.product(32 * half..32 * half + 32));
    }
}

/// s8: even and odd nibbles are 16 times the weight; activations are in the order of the CPU
/// backend.
#[test]
fn s8_unpacks_eight_weights_in_three_instructions() {
    let case = Case::new(8);
    for half in 0..2 {
        let even = |lane, r| signed8((case.word(lane, r) << 4) & 0xF0F0_F0F0);
        let odd = |lane, r| signed8(case.word(lane, r) & 0xF0F0_F0F0);
        let (r0, r1) = (2 * half, 2 * half + 1);
        let a: Vec<Matrix<i16>> = (0..32)
            .map(|l| vec![even(l, r0), even(l, r1), odd(l, r0), odd(l, r1)])
            .collect();
        let mut ordered = vec![[0u8; 64]; 8];
        for (to, from) in ordered.iter_mut().zip(&case.codes) {
            (0..64).for_each(|k| to[activation_position(k)] = from[k]);
        }
        let b: Vec<Matrix<i16>> = (0..32)
            .map(|lane| {
                let bytes = &ordered[lane >> 2][32 * half + 8 * (lane & 3)..][..8];
                bytes
                    .chunks(4)
                    .map(|quad| quad.iter().map(|&v| i16::from(v)).collect())
                    .collect()
            })
            .collect();
        let mut d = [[0.0; 8]; 16];
        mma(4, &a, &b, &mut d);
        let expected = case.product(32 * half..32 * half + 32);
        assert_eq!(d, expected.map(|row| row.map(|v| 16.0 * v)));
    }
}

/// bf16: a mask and an exclusive or yield 136 + w; activations are in natural order.
#[test]
fn bf16_uses_activations_in_natural_order() {
    let case = Case::new(8);
    let pair = |word: u32, j: usize| -> Vec<f32> {
        let both = ((word >> (4 * j)) & 0x000F_000F) ^ 0x4308_4308;
        [both as u16, (both >> 16) as u16]
            .map(|v| bf16::from_bits(v).to_f32() - 136.0)
            .into()
    };
    for (half, m) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let k0 = 32 * half + 16 * m;
        let a: Vec<Matrix<f32>> = (0..32)
            .map(|lane| {
                let words = [2 * half, 2 * half + 1].map(|r| case.word(lane, r));
                [(0, 2 * m), (1, 2 * m), (0, 2 * m + 1), (1, 2 * m + 1)]
                    .map(|(r, j)| pair(words[r], j))
                    .into()
            })
            .collect();
        let b: Vec<Matrix<f32>> = (0..32)
            .map(|lane| {
                let k = |r: usize, i: usize| k0 + 8 * r + 2 * (lane & 3) + i;
                let code = |r, i| f32::from(case.codes[lane >> 2][k(r, i)]);
                (0..2)
                    .map(|r| (0..2).map(|i| code(r, i)).collect())
                    .collect()
            })
            .collect();
        let mut d = [[0.0; 8]; 16];
        mma(2, &a, &b, &mut d);
        assert_eq!(d, case.product(k0..k0 + 16));
    }
}
