//! A decoder of packed projections against one of dense projections.

use candle_core::{DType, Module, Result, Tensor};
use std::sync::Arc;
use w4ax::candle::{Backend, Linear};
use w4ax::step::StepFlag;
use w4ax::{Grouping, Width};

use crate::{CPU, norms};
use test_support::{normal_values, normal_weight, rng};
use w4ax_robot::llama::layer::{Cache, Layer, NoClock, Sizes};

/// candle's product with the dequantized weight, in f32.
struct Dense(Tensor);

impl Module for Dense {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.to_dtype(DType::F32)?
            .matmul(&self.0.t()?)?
            .to_dtype(DType::BF16)
    }
}

struct Decoder<P>(Vec<Layer<P>>);

impl<P: Module> Decoder<P> {
    /// Runs a prefill, then one token after the other. Returns all outputs, `[tokens, hidden]`.
    fn run(&self, x: &Tensor, prefill: usize) -> Vec<f32> {
        let mut caches: Vec<Cache> = self.0.iter().map(|_| Cache::default()).collect();
        let tokens = x.dim(0).unwrap();
        let mut all = Vec::new();
        for (at, count) in [(0, prefill)]
            .into_iter()
            .chain((prefill..tokens).map(|at| (at, 1)))
        {
            let mut x = x.narrow(0, at, count).unwrap();
            for (layer, cache) in self.0.iter().zip(&mut caches) {
                x = layer.forward(&x, cache, &mut NoClock).unwrap();
            }
            all.extend(
                x.to_dtype(DType::F32)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap(),
            );
        }
        assert!(caches.iter().all(|cache| cache.tokens() == tokens));
        all
    }
}

/// |a - b| / |b|.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v).powi(2);
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (apart / b.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// OpenVLA's backbone at a sixteenth of its width, with four layers. 11008 / 16 is not a multiple
/// of 128: the groups have tails.
#[test]
fn decoder_matches_dense_products() {
    let rng = &mut rng(4);
    let sizes = Sizes {
        hidden: 256,
        intermediate: 688,
        heads: 8,
        max_tokens: 40,
    };
    let backend = Backend::new(CPU).unwrap();
    let flag = Arc::new(StepFlag::new());
    let (mut ours, mut dense) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let weights = sizes
            .projections()
            .map(|(_, n, k)| normal_weight(rng, (n, k), Grouping::G128));
        let norms = [0; 2].map(|_| norms(rng, sizes.hidden));
        let plain = weights
            .each_ref()
            .map(|w| Dense(Tensor::from_vec(w.dequantize(), (w.n(), w.k()), CPU).unwrap()));
        let linear: [Linear; 7] = weights.map(|w| {
            backend
                .linear(w, None)
                .unwrap()
                .with_width(Arc::clone(&flag))
        });
        ours.push(Layer::new(sizes, linear, norms.clone(), CPU).unwrap());
        dense.push(Layer::new(sizes, plain, norms, CPU).unwrap());
    }
    let x = Tensor::from_vec(
        normal_values(rng, &[36, sizes.hidden]),
        (36, sizes.hidden),
        CPU,
    )
    .unwrap();
    let (ours, expected) = (Decoder(ours), Decoder(dense).run(&x, 29));
    // All tokens at once and one by one give the same result through the cache.
    flag.record_by_host(0, Width::Bf16);
    let split = ours.run(&x, 29);
    let whole = ours.run(&x, 36);
    assert!(
        distance(&split, &whole) < 1e-2,
        "{}",
        distance(&split, &whole)
    );
    // BF16 roundings differ where sums do. The rest is the error of quantized activations.
    let mut last = 0.0;
    for (width, most) in [
        (Width::Bf16, 1e-2),
        (Width::A8, 0.05),
        (Width::A4, 0.5),
        (Width::A2, 2.0),
    ] {
        flag.record_by_host(1, width);
        let apart = distance(&ours.run(&x, 29), &expected);
        println!("{width}: {apart:.4}");
        assert!(apart < most && apart > last, "{width}: {apart}");
        last = apart;
    }
}
