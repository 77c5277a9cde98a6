//! The time of the towers at the size of the 7B model. Run by hand: `--ignored --nocapture`.

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use std::collections::HashMap;
use std::time::Instant;
use test_support::vla_data;
use w4ax_vla::checkpoint::{StoredWeight, WeightSource};
use w4ax_vla::model::{Loader, VisionTowers};
use w4ax_vla::{Result, ops};

/// Random weights of the shapes of the released model.
struct RandomWeights(HashMap<String, Vec<usize>>);

impl WeightSource for RandomWeights {
    fn name(&self) -> String {
        "random weights".into()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.0.get(tensor).cloned()
    }

    fn tensor(&self, _: &str, shape: &[usize]) -> Result<Tensor> {
        let mut rng = test_support::rng(shape.len() as u64);
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| rng.random_range(-0.03..0.03)).collect();
        let values = Tensor::from_vec(values, shape, &Device::Cpu)?;
        ops::cast(&values, DType::BF16)
    }

    fn weight(&self, module: &str, n: usize, k: usize) -> Result<StoredWeight> {
        Ok(StoredWeight::Plain(self.tensor(module, &[n, k])?))
    }
}

#[test]
#[ignore = "measures the time of the full-size towers, 1.4 GB"]
fn prints_the_time_of_the_full_size_towers() {
    let shapes = std::fs::read(vla_data().join("real_openvla7b_tensors.json")).unwrap();
    let source = RandomWeights(serde_json::from_slice(&shapes).unwrap());
    for dtype in [DType::F32, DType::BF16] {
        let loader = Loader::new(&source, &Device::Cpu, dtype).unwrap();
        let towers = VisionTowers::load(&loader).unwrap();
        let pixels = Tensor::ones((6, 224, 224), DType::F32, &Device::Cpu).unwrap();
        for _ in 0..2 {
            let start = Instant::now();
            let y = towers.forward(&pixels, &mut |_, _| ()).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            assert_eq!(y.dims(), [256, 2176]);
            // 157.8 GFLOP of DINOv2 and 210.9 of SigLIP.
            println!(
                "{dtype:?}: {:.0} ms, {:.1} GFLOP/s, {} MB loaded",
                seconds * 1e3,
                368.7 / seconds,
                loader.bytes() / 1_000_000
            );
        }
    }
}
