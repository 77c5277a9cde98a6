//! Two-level weights: round trips, and what is rejected.

use crate::files::{small_file_of, with_header};
use safetensors::SafeTensors;
use test_support::{PlainWeight, rng};
use w4ax::{Error, Grouping, MatRef, PackedFile, PackedWeight, ScaleType, Scales, Scheme};

/// Values, steps, scales and zero points of a two-level weight are kept bit for bit.
#[test]
fn two_level_weights_round_trip() {
    let rng = &mut rng(12);
    for ((n, k), grouping, scale_type, symmetric) in [
        ((1, 1), Grouping::G32, ScaleType::F32, true),
        ((16, 64), Grouping::G64, ScaleType::Bf16, true),
        ((37, 333), Grouping::G32, ScaleType::F16, false),
        ((40, 300), Grouping::G128, ScaleType::F32, false),
    ] {
        let plain = PlainWeight::random_two_level(rng, (n, k), grouping, scale_type, symmetric);
        let (packed, groups) = (plain.pack(), grouping.groups(k));
        assert_eq!(packed.scheme(), Scheme::TwoLevel);
        assert_eq!(packed.activation_grouping(), Grouping::PerChannel);
        assert_eq!(packed.unpack(), plain.q);
        let steps = plain.steps.as_ref().unwrap();
        let tiled = packed.tiled_steps().unwrap();
        assert_eq!(tiled.len(), n.next_multiple_of(16) * groups);
        let sum = |steps: &[u8]| steps.iter().map(|&s| usize::from(s)).sum::<usize>();
        assert_eq!(sum(tiled), sum(steps), "the padding is 0");
        let back = packed.dequantize();
        for (i, &q) in plain.q.iter().enumerate() {
            let (row, group) = (i / k, grouping.size().map_or(0, |size| i % k / size));
            let at = row * groups + group;
            let zero = plain.zeros.as_ref().map_or(0, |zeros| zeros[at]);
            assert_eq!(packed.step(row, group), steps[at]);
            assert_eq!(packed.zero(row, group), zero);
            assert_eq!(packed.scale(row, group), plain.scales.get(row));
            let w8 = (i32::from(q) - i32::from(zero)) * i32::from(steps[at]);
            assert_eq!(back[i], w8 as f32 * plain.scales.get(row));
        }
        let grouped = PlainWeight {
            steps: None,
            ..plain.clone()
        };
        let scales = PlainWeight::random(rng, (n, k), grouping, scale_type, symmetric).scales;
        let grouped = PlainWeight { scales, ..grouped }.pack();
        assert_eq!(
            grouped.tiles(),
            packed.tiles(),
            "the bytes of the tiles are those of INT4"
        );
        assert_eq!((grouped.scheme(), grouped.step(0, 0)), (Scheme::Grouped, 1));
        assert_eq!(grouped.tiled_steps(), None);
    }
}

/// Every constructor rejects a two-level weight that its arithmetic does not support.
#[test]
fn rejects_invalid_two_level_weights() {
    let (n, k) = (10, 70);
    let scales = |n: usize| Scales::F32(vec![1.0; n]);
    let mut q = vec![0i8; n * k];
    let pack = |q: &[i8], grouping, steps: &[u8], scales: &Scales, zeros: Option<&[i8]>| {
        let k = q.len() / n;
        PackedWeight::from_two_level(
            MatRef::new(q, n, k).unwrap(),
            grouping,
            steps,
            scales,
            zeros,
        )
    };
    let error = |q: &[i8], grouping, steps: &[u8], scales: &Scales, zeros: Option<&[i8]>| {
        pack(q, grouping, steps, scales, zeros)
            .unwrap_err()
            .to_string()
    };
    let (g32, steps) = (Grouping::G32, [1; 30]);
    let text = error(&q, g32, &steps, &scales(30), None);
    assert!(
        text.contains("scales has shape [30]: expected [10]"),
        "{text}"
    );
    assert!(error(&q, g32, &[1; 29], &scales(10), None).contains("group steps"));
    assert!(error(&q, g32, &steps, &scales(10), Some(&[0; 29])).contains("zero points"));
    assert!(error(&q, g32, &steps, &scales(10), Some(&[9; 30])).contains("zero point is 9"));
    assert!(error(&q, g32, &[0; 30], &scales(10), None).contains("group step is 0"));
    assert!(error(&q, g32, &[17; 30], &scales(10), None).contains("group step is 17"));
    let channel = error(&q, Grouping::PerChannel, &[1; 10], &scales(10), None);
    assert!(
        channel.contains("grouping of a two-level weight is channel"),
        "{channel}"
    );
    assert!(matches!(
        pack(&q, g32, &steps, &Scales::F32(vec![f32::NAN; 10]), None),
        Err(Error::NotFinite { .. })
    ));
    let long = vec![0i8; n * 65_537];
    let text = error(&long, Grouping::G128, &vec![1; n * 513], &scales(10), None);
    assert!(text.contains("K of a two-level weight is 65537"), "{text}");

    // The first bad value is named, and its neighbors at the limit are valid.
    let mut steps = [16; 30];
    q[3 * k + 69] = -8;
    q[5 * k] = -8;
    let found = pack(&q, g32, &steps, &scales(10), None).unwrap_err();
    assert!(
        matches!(
            found,
            Error::Weight8 {
                row: 3,
                k: 69,
                value: -128
            }
        ),
        "{found}"
    );
    assert_eq!(
        found.to_string(),
        "8-bit weight of row 3, k 69 is -128: expected -127..=127"
    );
    (steps[3 * 3 + 2], steps[5 * 3]) = (15, 1);
    assert!(pack(&q, g32, &steps, &scales(10), None).is_ok());
    let mut zeros = [0; 30];
    zeros[3 * 3 + 2] = 1;
    assert!(matches!(
        pack(&q, g32, &steps, &scales(10), Some(&zeros)),
        Err(Error::Weight8 {
            row: 3,
            k: 69,
            value: -135
        })
    ));
}

/// The padding of a partial tile is unpacked too: `(0 - zg) * sg` must be in range, even where the
/// values are.
#[test]
fn rejects_zero_point_whose_padding_is_out_of_range() {
    let (n, k) = (2, 33);
    let pack = |q: i8, zero: i8, step: u8| {
        let q = vec![q; n * k];
        let q = MatRef::new(&q, n, k).unwrap();
        let zeros = [0, 0, 0, zero];
        let steps = [1, 1, 1, step];
        let scales = Scales::F32(vec![1.0; n]);
        PackedWeight::from_two_level(q, Grouping::G32, &steps, &scales, Some(&zeros))
    };
    for (q, zero, step) in [(-4, -8, 15), (4, 8, 15), (-4, -7, 16), (4, 7, 16)] {
        assert!(pack(q, zero, step).is_ok(), "{q} {zero} {step}");
    }
    for (q, zero, product) in [(-4, -8, "-128"), (4, 8, "128")] {
        let error = pack(q, zero, 16).unwrap_err().to_string();
        assert!(
            error.contains("zero point times group step") && error.contains(product),
            "{error}"
        );
    }
}

/// A file of a two-level weight without its steps, or with a value that the arithmetic does not
/// support, is rejected by name.
#[test]
fn rejects_invalid_two_level_files() {
    let good = small_file_of(Scheme::TwoLevel).to_bytes().unwrap();
    let data = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let (_, header) = SafeTensors::read_metadata(&good).unwrap();
    let start = |name: &str| data + header.info(name).unwrap().data_offsets.0;
    let set = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let error = |bytes: &[u8]| PackedFile::from_bytes(bytes, "some").unwrap_err();
    let missing = with_header(&good, |h| {
        let steps = h.as_object_mut().unwrap().remove("w.steps").unwrap();
        h["other"] = steps;
    });
    assert!(matches!(error(&missing), Error::MissingTensor { name, .. } if name == "w.steps"));
    // Row 0 of group 0, and row 20 of [2][3 groups][16], which is beyond N.
    let (steps, pad) = (start("w.steps"), 3 * 16 + 4);
    for (bytes, expected) in [
        (set(steps, 0), "group step is 0"),
        (set(steps, 17), "group step is 17"),
        (
            set(steps + pad, 1),
            "the padding of `w.steps` at row 20 is not 0",
        ),
        (
            set(start("w.zeros") + pad, 1),
            "the padding of `w.zeros` at row 20 is not 0",
        ),
        // Row 20 of [2][16], two bytes each.
        (
            set(start("w.scales") + 2 * 20, 1),
            "the padding of `w.scales` at row 20 is not 0",
        ),
        (set(start("w.zeros"), 9), "zero point is 9"),
    ] {
        let error = error(&bytes).to_string();
        assert!(
            error.contains("weight `w`") && error.contains(expected),
            "{error}"
        );
    }
    // -8 at row 0, k 0 with the zero point 8: |w8| is 16 times the step.
    let mut bytes = good.clone();
    bytes[start("w.tiles")] = bytes[start("w.tiles")] & 0xF0 | 8;
    bytes[start("w.zeros")] = 8;
    bytes[steps] = 8;
    let error = error(&bytes).to_string();
    assert!(
        error.contains("8-bit weight of row 0, k 0 is -128"),
        "{error}"
    );
}
