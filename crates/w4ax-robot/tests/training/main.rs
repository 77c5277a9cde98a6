//! The distillation: gradients, draws, interrupted runs, and foreign files.

mod inference;
mod losses;
mod optimizer;
mod rows;
mod runs;
mod stages;
mod tiny;
mod values;

use std::sync::LazyLock;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use w4ax_robot::checkpoint::Checkpoint;
use w4ax_robot::dataset::{Dataset, RECORDED};
use w4ax_robot::paths::DEEP_POLICY;
use w4ax_robot::training::batches::Disturb;
use w4ax_robot::training::losses::Weights;
use w4ax_robot::training::plan::Plan;

static POLICY: LazyLock<Checkpoint> = LazyLock::new(|| Checkpoint::load(DEEP_POLICY).unwrap());
static ROWS: LazyLock<Dataset> = LazyLock::new(|| Dataset::load(RECORDED).unwrap());

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn plan(seed: u64) -> Plan {
    Plan {
        inputs: "of the test".into(),
        static_ratio: Some(0.2),
        exit: None,
        adapter_hidden: 8,
        controller_hidden: 4,
        weights: Weights {
            lambda: 0.01,
            whole: 1.0,
            distance: 0.3,
            risk: 0.02,
        },
        disturb: Disturb {
            noise: 0.05,
            between: 0.5,
        },
        steps: [5, 6],
        batch: 8,
        parts: 2,
        rate: 1e-3,
        clip: 1.0,
        seed,
    }
}
