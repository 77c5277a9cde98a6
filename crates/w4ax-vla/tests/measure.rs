//! Random weights of the real shapes, and the memory of the process.

use std::collections::BTreeMap;
use std::time::Duration;
use w4ax::Width;
use w4ax::dispatch::StepCosts;
use w4ax_vla::checkpoint::{RandomWeights, StoredWeight, WeightSource};
use w4ax_vla::measure::{ModelShape, PredictedTime, peak_memory, predictions, reset_peak_memory};

fn real() -> BTreeMap<String, Vec<usize>> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/real_openvla7b_tensors.json"
    );
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The reference lists all tensors of the released model. The attention pool of SigLIP is in it,
/// but never runs.
#[test]
fn shapes_are_those_of_the_released_model() {
    let real = real();
    assert_eq!(real.len(), 982);
    let random = RandomWeights::openvla_7b(false);
    for (name, shape) in random.shapes() {
        assert_eq!(Some(shape), real.get(name), "{name}");
    }
    let unused = real
        .keys()
        .filter(|name| !random.shapes().contains_key(*name));
    let unused: Vec<&String> = unused.collect();
    assert!(
        unused.iter().all(|name| name.contains(".attn_pool.")),
        "{unused:?}"
    );
    assert_eq!(unused.len() + random.shapes().len(), 982);
}

#[test]
fn action_head_and_proprio_projector_come_with_oft() {
    let (plain, oft) = (
        RandomWeights::openvla_7b(false),
        RandomWeights::openvla_7b(true),
    );
    assert_eq!(oft.shapes().len() - plain.shapes().len(), 20);
    assert_eq!(
        oft.shape("action_head.model.fc1.weight"),
        Some(vec![4096, 28672])
    );
    assert_eq!(
        oft.shape("proprio_projector.fc1.weight"),
        Some(vec![4096, 8])
    );
}

#[test]
fn weights_depend_on_the_name_only_and_have_their_deviation() {
    let shapes = BTreeMap::from([
        ("a.weight".to_owned(), vec![300, 700]),
        ("b.weight".to_owned(), vec![300, 700]),
    ]);
    let source = RandomWeights::new(shapes);
    let values = |name: &str| -> Vec<f32> {
        let StoredWeight::Plain(weight) = source.weight(name, 300, 700).unwrap() else {
            panic!("random weights are plain")
        };
        let wide = weight.to_dtype(candle_core::DType::F32).unwrap();
        wide.flatten_all().unwrap().to_vec1().unwrap()
    };
    let a = values("a");
    assert_eq!(a, values("a"));
    assert_ne!(a, values("b"));
    let mean = a.iter().sum::<f32>() / a.len() as f32;
    let variance = a.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / a.len() as f32;
    let expected = 1.0 / 700f32.sqrt();
    assert!(mean.abs() < 0.01 * expected, "{mean}");
    assert!(
        (variance.sqrt() / expected - 1.0).abs() < 0.01,
        "{variance}"
    );
    let error = source.tensor("a.weight", &[300, 701]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("[300, 700]: expected [300, 701]"),
        "{error}"
    );
    assert!(source.tensor("c.weight", &[1]).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn peak_memory_sees_an_allocation_and_forgets_it() {
    let before = peak_memory().unwrap();
    let block = vec![1u8; 200_000_000];
    assert!(peak_memory().unwrap() >= before + 150_000_000 + u64::from(block[7] - 1));
    drop(block);
    reset_peak_memory();
    assert!(peak_memory().unwrap() < before + 100_000_000);
}

/// The costs for `--costs` are the predicted times of a step, in milliseconds.
#[test]
fn files_of_costs_are_the_predictions() {
    let devices = [
        ("a100", "A100-SXM-80GB"),
        ("orin", "Jetson AGX Orin 64GB"),
        ("rtx4090", "RTX 4090"),
        ("h100", "H100-SXM"),
    ];
    for shape in [ModelShape::OpenVla7b, ModelShape::Oft7b] {
        let predicted = predictions(shape);
        for (file, device) in devices {
            let name = format!("{}-{file}.json", shape.name());
            let costs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/costs/");
            let costs = StepCosts::load(format!("{costs}{name}")).unwrap();
            for width in Width::ALL {
                let of_width = |p: &&PredictedTime| p.device == device && p.width == width;
                let times = predicted.iter().filter(of_width).map(|p| p.time);
                let ms = times.sum::<Duration>().as_secs_f64() * 1e3;
                assert!(
                    ms > 0.0 && (costs.of(width) - ms).abs() < 6e-4,
                    "{name} {width}: {ms}"
                );
            }
        }
    }
}
