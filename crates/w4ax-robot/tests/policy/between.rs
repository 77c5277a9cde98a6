//! The computations between the GEMMs equal plain loops, bit for bit.

use half::bf16;
use proptest::prelude::*;
use w4ax::Error;
use w4ax::cpu::Cpu;

use crate::ROLLOUTS;
use test_support::TensorFile;
use w4ax_robot::checkpoint::{BINS, Checkpoint};
use w4ax_robot::hidden::{EPS, Hidden};
use w4ax_robot::policy::{Policy, tokens_of};
use w4ax_robot::setup::QUANTIZE;
use w4ax_robot::shapes::{INPUT, Tokens};

fn bits(x: &[bf16]) -> Vec<u16> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Returns `x / sqrt(mean(x^2) + eps) * factors` of one row.
fn rms(x: &[f32], factors: &[f32]) -> Vec<bf16> {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = 1.0 / (mean + EPS).sqrt();
    let products = x.iter().zip(factors).map(|(x, factor)| x * scale * factor);
    products.map(bf16::from_f32).collect()
}

/// Numbers of outputs that are a multiple of the lanes, and others. Sums run over k in ascending
/// order.
#[test]
fn embedding_matches_a_plain_sum() {
    for d in [64, 100, 7] {
        let file = TensorFile::policy(1, d, 32);
        let checkpoint = Checkpoint::parse(&file.bytes(), "policy").unwrap();
        let mut policy = Policy::new(&checkpoint, QUANTIZE, Cpu::new().unwrap(), 3).unwrap();
        policy.embed(&ROLLOUTS.input[..3]).unwrap();
        let sum = |input: &[f32; INPUT], w: &[bf16]| {
            let products = input.iter().zip(w).map(|(x, w)| x * w.to_f32());
            products.fold(0.0, |sum, product| sum + product)
        };
        let wanted = ROLLOUTS.input[..3]
            .iter()
            .flat_map(|input| checkpoint.inp.data.chunks(INPUT).map(|w| sum(input, w)));
        let wanted: Vec<f32> = wanted.collect();
        let (_, hidden) = policy.engine_and_hidden();
        assert_eq!((hidden.rows(), hidden.most_rows()), (3, 3));
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(hidden.values()), bits(&wanted), "width {d}");
        // Fewer rows than before.
        policy.embed(&ROLLOUTS.input[1..2]).unwrap();
        let (_, hidden) = policy.engine_and_hidden();
        assert_eq!(hidden.values(), &wanted[d..2 * d]);
    }
}

/// rms is computed again whenever the state changes, for the current rows only.
#[test]
fn rms_uses_the_whole_state() {
    let factors = [1.0, -2.0, 0.5];
    let mut hidden = Hidden::new(2, 3);
    let mut out = [bf16::ZERO; 6];
    let x = [1.0, 2.0, 3.0, -4.0, 0.25, 0.0];
    hidden.begin(2).copy_from_slice(&x);
    let of = |x: &[f32]| [rms(&x[..3], &factors), rms(&x[3..], &factors)].concat();
    for _ in 0..2 {
        hidden.rms(&factors, &mut out);
        assert_eq!(out[..], of(&x));
    }
    // With other factors: a controller's, then the block's.
    hidden.rms(&[3.0; 3], &mut out);
    assert_eq!(out[..3], rms(&x[..3], &[3.0; 3]));

    let y = [10.0, 0.5, -1.0, 0.0, 3.0, 8.0];
    hidden.add(&y.map(bf16::from_f32));
    let x: Vec<f32> = x.iter().zip(y).map(|(x, y)| x + y).collect();
    assert_eq!(hidden.values(), x);
    hidden.rms(&factors, &mut out);
    assert_eq!(out[..], of(&x));

    let before = hidden.clone();
    hidden.begin(1).copy_from_slice(&[0.0, 0.0, 6.0]);
    out.fill(bf16::MAX);
    hidden.rms(&factors, &mut out);
    assert_eq!(out[..3], rms(&[0.0, 0.0, 6.0], &factors));
    assert_eq!(out[3..], [bf16::MAX; 3]);
    assert_eq!(before.values(), x);
}

/// With x normed to exactly 1, the factors themselves are rounded: every finite BF16 number, and
/// values between it and the next.
#[test]
fn rounds_ties_to_even() {
    let mut hidden = Hidden::new(1, 4);
    hidden.begin(1).fill(1024.0);
    let mut out = [bf16::ZERO; 4];
    for number in (0..=u16::MAX)
        .map(bf16::from_bits)
        .filter(|x| x.is_finite())
    {
        let behind = [0, 0x7FFF, 0x8000, 0x8001];
        let factors = behind.map(|low| f32::from_bits(u32::from(number.to_bits()) << 16 | low));
        hidden.rms(&factors, &mut out);
        assert_eq!(bits(&out), bits(&factors.map(bf16::from_f32)), "{number:?}");
    }
}

/// Values, some of them extreme.
fn number() -> impl Strategy<Value = f32> {
    let extremes = vec![
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-40,
        1e30,
        f32::INFINITY,
        f32::NAN,
    ];
    prop_oneof![
        60 => -4.0..4.0f32,
        1 => prop::sample::select(extremes),
    ]
}

/// The first of the largest logits, or the first that is not finite.
fn token(logits: &[bf16]) -> Result<u8, usize> {
    if let Some(bad) = logits.iter().position(|x| !x.is_finite()) {
        return Err(bad);
    }
    let mut best = 0;
    for at in 1..logits.len() {
        if logits[at].to_f32() > logits[best].to_f32() {
            best = at;
        }
    }
    Ok(best as u8)
}

/// All seven tokens of one row.
fn tokens(logits: &[bf16]) -> Result<Tokens, usize> {
    let mut tokens = [Tokens::default()];
    match tokens_of(logits, &mut tokens) {
        Ok(()) => Ok(tokens[0]),
        Err(Error::NotFinite { index, .. }) => Err(index),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn first_of_equal_logits_wins() {
    let row = |change: &dyn Fn(&mut [bf16])| {
        let mut logits = vec![bf16::from_f32(-3.0); 7 * BINS];
        change(&mut logits);
        tokens(&logits)
    };
    assert_eq!(row(&|_| ()), Ok([0; 7]));
    let largest = row(&|logits| {
        logits[BINS - 1] = bf16::from_f32(-2.984375);
        logits[BINS + 9] = bf16::MAX;
        logits[BINS + 200] = bf16::MAX;
        // The two zeros are equal, in either order.
        logits[2 * BINS + 5] = bf16::NEG_ZERO;
        logits[2 * BINS + 6] = bf16::ZERO;
        logits[3 * BINS + 5] = bf16::ZERO;
        logits[3 * BINS + 6] = bf16::NEG_ZERO;
        logits[4 * BINS..5 * BINS].fill(bf16::MIN);
        logits[5 * BINS + 255] = bf16::MIN_POSITIVE_SUBNORMAL;
    });
    assert_eq!(largest, Ok([255, 9, 5, 5, 0, 255, 0]));
    for bad in [bf16::INFINITY, bf16::NEG_INFINITY, bf16::NAN, -bf16::NAN] {
        assert_eq!(row(&|logits| logits[BINS + 17] = bad), Err(BINS + 17));
        let both = row(&|logits| {
            logits[3 * BINS + 2] = bad;
            logits[3 * BINS + 1] = bf16::INFINITY;
            logits[4 * BINS] = bf16::NAN;
        });
        assert_eq!(both, Err(3 * BINS + 1));
    }
}

proptest! {
    #[test]
    fn normed_state_matches_a_plain_loop(
        x in prop::collection::vec(number(), 1..70),
        factor in -3.0..3.0f32,
    ) {
        let factors: Vec<f32> = (0..x.len()).map(|i| factor + i as f32 / 16.0).collect();
        let mut hidden = Hidden::new(1, x.len());
        hidden.begin(1).copy_from_slice(&x);
        let mut out = vec![bf16::ZERO; x.len()];
        hidden.rms(&factors, &mut out);
        prop_assert_eq!(bits(&out), bits(&rms(&x, &factors)));
        hidden.add(&out);
        for ((got, x), y) in hidden.values().iter().zip(&x).zip(&out) {
            let wanted = x + y.to_f32();
            prop_assert!(got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan());
        }
    }

    #[test]
    fn tokens_match_a_plain_loop(
        row in prop::collection::vec(0u16.., 7 * BINS),
        finite: bool,
        coarse: bool,
        below_zero: bool,
    ) {
        let logit = |bits: u16| {
            // Many equal values, zeros among them, without infinities and NaN, none above zero.
            let bits = if coarse { bits & 0xC003 } else { bits };
            let bits = if finite { bits & 0xBFFF } else { bits };
            let above = below_zero && bits & 0x7FFF != 0;
            bf16::from_bits(if above { bits | 0x8000 } else { bits })
        };
        let logits: Vec<bf16> = row.into_iter().map(logit).collect();
        let mut wanted = Ok(Tokens::default());
        for (at, logits) in logits.chunks(BINS).enumerate() {
            match (token(logits), &mut wanted) {
                (Ok(token), Ok(tokens)) => tokens[at] = token,
                (Err(bad), Ok(_)) => wanted = Err(at * BINS + bad),
                _ => (),
            }
        }
        prop_assert_eq!(tokens(&logits), wanted);
    }
}
