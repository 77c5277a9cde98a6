//! Selection of static layers.

use w4ax::Error;
use w4ax::skip::{Gap, Layers};

#[test]
fn recorded_similarities_select_the_recorded_layers() {
    let similarity = [
        0.541, 0.874, 0.968, 0.973, 0.975, 0.976, 0.973, 0.967, 0.973, 0.974, 0.978, 0.979, 0.980,
        0.984, 0.978, 0.985,
    ];
    let picked = |ratio| -> Vec<usize> {
        let layers = Layers::by_similarity(&similarity, ratio).unwrap();
        layers.static_layers().collect()
    };
    assert_eq!(picked(0.2), [0, 1, 7]);
    // floor(1.6), at least one, floor(4.8), all.
    assert_eq!(picked(0.1), [0]);
    assert_eq!(picked(0.0), [0]);
    assert_eq!(picked(0.3), [0, 1, 2, 7]);
    assert_eq!(picked(1.0).len(), 16);
    let layers = Layers::by_similarity(&similarity, 0.2).unwrap();
    let gaps = [Gap { start: 2, end: 7 }, Gap { start: 8, end: 16 }];
    assert_eq!(layers.gaps(), gaps);
    assert_eq!(layers.dynamic_layers().count(), 13);
}

/// Some products of the ratio and 100 are below the integer in f64.
#[test]
fn ratio_of_whole_layers_is_not_rounded_down() {
    assert_eq!(0.29 * 100.0, 28.999999999999996);
    let similarity = [0.5; 100];
    for percent in 1..=100 {
        let layers = Layers::by_similarity(&similarity, percent as f64 / 100.0).unwrap();
        assert_eq!(layers.static_layers().count(), percent);
    }
}

#[test]
fn first_of_equal_similarities_are_static() {
    let picked = |similarity: &[f64], ratio| -> Vec<usize> {
        let layers = Layers::by_similarity(similarity, ratio).unwrap();
        layers.static_layers().collect()
    };
    assert_eq!(picked(&[0.5; 5], 0.4), [0, 1]);
    assert_eq!(picked(&[0.9, 0.5, 0.7, 0.5, 0.5, 0.4], 0.5), [1, 3, 5]);
    // Enough layers that an unstable sort would reorder them.
    let similarity: Vec<f64> = (0..100).map(|i| [0.9, 0.7, 0.5, 0.7][i % 4]).collect();
    let lowest = (0..25).map(|i| 4 * i + 2);
    let first_of_the_next = (0..10).map(|i| 2 * i + 1);
    let mut expected: Vec<usize> = lowest.chain(first_of_the_next).collect();
    expected.sort_unstable();
    assert_eq!(picked(&similarity, 0.35), expected);
}

#[test]
fn rejects_invalid_layers_and_ratios() {
    let rejected = |result: w4ax::Result<Layers>, name: &str| match result {
        Err(Error::Range { what, .. } | Error::NotFinite { what, .. }) => assert_eq!(what, name),
        other => panic!("{other:?}"),
    };
    rejected(Layers::new(0, &[]), "number of layers");
    rejected(Layers::new(4, &[4]), "static layers");
    rejected(Layers::new(4, &[1, 1]), "static layers");
    rejected(Layers::by_similarity(&[], 0.2), "number of layers");
    rejected(Layers::by_similarity(&[0.5, f64::NAN], 0.2), "similarity");
    for ratio in [-0.1, 1.1, f64::NAN] {
        rejected(Layers::by_similarity(&[0.5], ratio), "static ratio");
    }
    assert!(Layers::cosine_similarity(&[1.0], &[1.0, 2.0]).is_err());
    let cosine = |a: &[f32], b: &[f32]| Layers::cosine_similarity(a, b).unwrap();
    assert_eq!(cosine(&[3.0, 4.0], &[4.0, 3.0]), 0.96);
    assert_eq!(cosine(&[0.0, 0.0], &[4.0, 3.0]), 0.0);
}
