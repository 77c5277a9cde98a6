//! Random adapters and controllers.

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::skip::{Adapter, Controller, NetworkConfig, SkipFile};

/// Random networks for a stack of `layers` layers of this width, small enough that actions stay
/// valid. Every controller's logit is about `bias`.
pub fn random_skip_file(
    layers: usize,
    width: usize,
    static_layers: &[usize],
    bias: f32,
) -> SkipFile {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (ha, hc) = (24, 5);
    let config = NetworkConfig {
        layers,
        width,
        static_layers: static_layers.to_vec(),
        static_ratio: None,
        similarity: vec![0.9; layers],
        adapter_hidden: ha,
        controller_hidden: hc,
        lambda: 0.01,
        seed: 7,
        exit: Some(layers / 2),
    };
    let mut weights = |count: usize, scale: f32| -> Vec<bf16> {
        let mut weight = || bf16::from_f32(rng.random_range(-scale..scale));
        (0..count).map(|_| weight()).collect()
    };
    let mut adapter = || Adapter {
        norm: vec![1.0; width],
        up: weights(ha * width, 0.05),
        down: weights(ha * width, 0.01),
    };
    let dynamic: Vec<usize> = (0..layers).filter(|l| !static_layers.contains(l)).collect();
    let adapters = dynamic.iter().map(|&l| (l, adapter())).collect();
    let exit = Some(adapter());
    let controller = |l: usize| Controller {
        norm: vec![1.0; width],
        hidden: weights(hc * width, 0.05),
        out: vec![0.5 + l as f32 / 64.0; hc],
        bias,
    };
    SkipFile {
        config,
        adapters,
        controllers: dynamic
            .iter()
            .copied()
            .zip(dynamic.iter().copied().map(controller))
            .collect(),
        exit,
        metrics: serde_json::Map::new(),
    }
}
