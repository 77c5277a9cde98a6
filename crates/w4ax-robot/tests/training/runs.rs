//! Whole runs on the deep policy: interrupted runs, rejected checkpoints, evaluation and the file.

use std::path::Path;

use candle_core::{DType, Tensor};
use half::bf16;
use safetensors::Dtype;
use w4ax::Error;
use w4ax::skip::{Layers, NetworkConfig, SkipFile};

use crate::{POLICY, ROWS, plan};
use test_support::TensorFile;
use w4ax_robot::shapes::Tokens;
use w4ax_robot::training::batches::{self, Pool, generator};
use w4ax_robot::training::evaluate::Judge;
use w4ax_robot::training::frozen::Frozen;
use w4ax_robot::training::networks::{self, Networks, Sizes};
use w4ax_robot::training::optimizer::{Optimizer, scalar};
use w4ax_robot::training::plan::Plan;
use w4ax_robot::training::state::{self, Progress};
use w4ax_robot::training::train::{Trained, Trainer};
use w4ax_robot::training::{self, Failure};

/// Trains the deep policy's networks for some steps, in runs of `limit` steps.
fn train(
    plan: &Plan,
    threads: usize,
    limit: Option<usize>,
    at: &Path,
) -> training::Result<Trained> {
    let frozen = Frozen::new(&POLICY, DType::F32)?;
    let layers = Layers::new(16, &[0, 1, 7])?;
    let trainer = Trainer {
        frozen: &frozen,
        pool: &Pool::new(&POLICY, &ROWS),
        plan,
        layers: &layers,
        threads: &rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap(),
        checkpoint: at,
        every: 4,
    };
    loop {
        if let Some(trained) = trainer.run(limit, |_| ())? {
            return Ok(trained);
        }
    }
}

fn bits(trained: &Trained) -> Vec<(String, Vec<u32>)> {
    let bits = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let all = trained.networks.0.iter();
    all.map(|(name, x)| {
        (
            name.clone(),
            bits(x).into_iter().map(f32::to_bits).collect(),
        )
    })
    .collect()
}

#[test]
fn run_is_the_same_for_any_threads_and_interruptions() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let whole = train(&plan(7), 2, None, &at("whole")).unwrap();
    assert_eq!(
        bits(&whole),
        bits(&train(&plan(7), 1, None, &at("again")).unwrap())
    );
    for limit in [1, 3, 5] {
        let name = format!("stopped after {limit}");
        let stopped = train(&plan(7), 2, Some(limit), &at(&name)).unwrap();
        assert_eq!(bits(&whole), bits(&stopped), "{name}");
        assert_eq!(whole.progress.losses, stopped.progress.losses, "{name}");
    }
    assert_ne!(
        bits(&whole),
        bits(&train(&plan(8), 2, None, &at("other seed")).unwrap())
    );

    // A killed run has an earlier checkpoint: of step 4 of stage 2, with stages of 5 and 6 steps.
    assert!(at("whole").is_file());
    let killed = train(&plan(7), 2, None, &at("whole")).unwrap();
    assert_eq!(bits(&whole), bits(&killed));
    assert_eq!(killed.progress.step, 6);
}

#[test]
fn rejects_a_checkpoint_of_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let start = |plan: &Plan| {
        let layers = Layers::new(16, &[0, 1, 7]).unwrap();
        let sizes = Sizes {
            width: 192,
            adapter: plan.adapter_hidden,
            controller: plan.controller_hidden,
        };
        let vars = networks::initial(&layers, false, sizes, DType::F32, &mut generator(0, 2, 0));
        Optimizer::new(vars.unwrap()).unwrap()
    };
    let mut progress = Progress {
        step: 4,
        optimizer_steps: 4,
        ..Default::default()
    };
    state::save(&path, &plan(7), &progress, &start(&plan(7))).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        state::load(&path, &plan(7), &mut start(&plan(7))).unwrap(),
        progress
    );

    let refused = |plan: &Plan, what: &str| {
        match state::load(&path, plan, &mut start(plan)) {
            Err(Failure::W4ax(Error::Format { reason, .. })) => {
                assert!(
                    reason.contains(what),
                    "`{reason}` does not contain `{what}`"
                )
            }
            Err(Failure::W4ax(Error::MissingTensor { name, .. })) => assert_eq!(name, what),
            other => panic!("{what}: {:?}", other.map_err(|error| error.to_string())),
        };
    };
    refused(&plan(8), "of another training");
    let wider = Plan {
        adapter_hidden: 9,
        ..plan(7)
    };
    refused(&wider, "of another training");

    for cut in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        refused(&plan(7), "");
    }
    let path_text = path.display().to_string();
    let spoil = |change: &dyn Fn(&mut TensorFile)| {
        std::fs::write(&path, &bytes).unwrap();
        let mut file = TensorFile::read(&path_text);
        for (field, value) in [
            ("format", "w4ax-distill".to_owned()),
            ("plan", serde_json::to_string(&plan(7)).unwrap()),
            (
                "progress",
                serde_json::to_string(&Progress::default()).unwrap(),
            ),
        ] {
            file.describe(field, &value);
        }
        change(&mut file);
        std::fs::write(&path, file.bytes()).unwrap();
    };
    spoil(&|_| ());
    state::load(&path, &plan(7), &mut start(&plan(7))).unwrap();
    spoil(&|file| file.describe("format", "w4ax"));
    refused(&plan(7), "unknown format `w4ax`");
    spoil(&|file| file.describe("plan", "{}"));
    refused(&plan(7), "`plan`");
    spoil(&|file| file.describe("progress", "[]"));
    refused(&plan(7), "`progress`");
    spoil(&|file| file.remove("first.adapters.2.norm"));
    refused(&plan(7), "first.adapters.2.norm");
    spoil(&|file| file.copy("first.adapters.2.norm", "first.adapters.7.norm"));
    refused(&plan(7), "unexpected tensor `first.adapters.7.norm`");
    let floats = |x: f32, count: usize| {
        vec![x; count]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect()
    };
    spoil(&|file| {
        file.set(
            "value.adapters.2.norm",
            Dtype::F32,
            &[191],
            floats(1.0, 191),
        )
    });
    refused(&plan(7), "expected F32 [192]");
    spoil(&|file| {
        file.set(
            "second.adapters.2.norm",
            Dtype::F32,
            &[192],
            floats(f32::NAN, 192),
        )
    });
    refused(&plan(7), "not finite");
    for (stage, step, optimizer_steps) in [(2, 0, 0), (0, 6, 6), (1, 7, 7), (0, 1, 9)] {
        progress = Progress {
            stage,
            step,
            optimizer_steps,
            ..Default::default()
        };
        spoil(&|file| file.describe("progress", &serde_json::to_string(&progress).unwrap()));
        refused(&plan(7), "beyond the plan");
    }
}

/// Runs one row layer by layer. Returns the layers that ran, and the tokens.
pub fn alone(
    frozen: &Frozen,
    networks: &Networks,
    layers: &Layers,
    input: &Tensor,
    threshold: f64,
) -> (Vec<bool>, Tokens) {
    let mut x = frozen.embed(input).unwrap();
    let mut ran = vec![false; layers.len()];
    let mut layer = 0;
    while layer < layers.len() {
        if let Some(gap) = layers.gap_of(layer) {
            let p = networks.controller(layer, &x).unwrap();
            if scalar(&p.squeeze(0).unwrap().squeeze(0).unwrap()).unwrap() > threshold {
                x = networks.adapter(&format!("adapters.{layer}"), &x).unwrap();
                layer = layers.gaps()[gap].end;
                continue;
            }
        }
        x = frozen.block(layer, &x).unwrap();
        ran[layer] = true;
        layer += 1;
    }
    (ran, tokens(frozen, &x))
}

/// Returns the tokens of one row's last state.
pub fn tokens(frozen: &Frozen, x: &Tensor) -> Tokens {
    let tokens = frozen.tokens(x).unwrap().squeeze(0).unwrap();
    let tokens = tokens.to_vec1::<u32>().unwrap();
    std::array::from_fn(|i| u8::try_from(tokens[i]).unwrap())
}

/// The evaluation uses the networks of the file. A row that runs alone, layer by layer, takes the
/// path of the batch.
#[test]
fn shares_and_errors_match_single_rows() {
    let folder = tempfile::tempdir().unwrap();
    let trained = train(&plan(7), 2, None, &folder.path().join("run")).unwrap();
    let frozen = Frozen::new(&POLICY, DType::F32).unwrap();
    let layers = Layers::new(16, &[0, 1, 7]).unwrap();
    let networks = &trained.networks;
    let rows: Vec<usize> = ROWS.rows(true).into_iter().step_by(50).collect();
    let rows = batches::inputs(&POLICY, &ROWS, &rows);
    let input = batches::tensor(&rows, DType::F32).unwrap();
    let judge = Judge::new(&frozen, &input).unwrap();

    let none = judge.skipping(&frozen, networks, &layers, 1.0).unwrap();
    assert_eq!((none.share, none.error), (1.0, 0.0));
    let all = judge.skipping(&frozen, networks, &layers, 0.0).unwrap();
    assert_eq!(all.share, 3.0 / 16.0);
    assert!(all.error > 0.1, "{}", all.error);

    let mut shares = Vec::new();
    for threshold in [0.45, 0.48, 0.5, 0.505, 0.52] {
        let (mut ran, mut error) = (0, 0.0);
        for row in 0..rows.len() {
            let input = input.narrow(0, row, 1).unwrap();
            let (run, got) = alone(&frozen, networks, &layers, &input, threshold);
            ran += run.iter().filter(|&&ran| ran).count();
            let wanted = tokens(&frozen, &frozen.states(&input).unwrap()[16]);
            let squares = got.into_iter().zip(wanted);
            let squares =
                squares.map(|(a, b)| (2.0 * (f64::from(a) - f64::from(b)) / 255.0).powi(2));
            error += squares.sum::<f64>().sqrt();
        }
        let point = judge
            .skipping(&frozen, networks, &layers, threshold)
            .unwrap();
        let (share, error) = (
            ran as f64 / (16 * rows.len()) as f64,
            error / rows.len() as f64,
        );
        assert!(
            (point.share - share).abs() < 1e-9,
            "{threshold}: {} {share}",
            point.share
        );
        assert!(
            (point.error - error).abs() < 1e-4,
            "{threshold}: {} {error}",
            point.error
        );
        shares.push(point.share);
    }
    assert!(
        shares.iter().any(|&share| share > 0.2 && share < 0.99),
        "{shares:?}"
    );

    let config = NetworkConfig {
        layers: 16,
        width: 192,
        static_layers: vec![0, 1, 7],
        static_ratio: Some(0.2),
        similarity: vec![0.5; 16],
        adapter_hidden: 8,
        controller_hidden: 4,
        lambda: 0.01,
        seed: 7,
        exit: None,
    };
    let file = networks.file(config, &layers).unwrap();
    let path = folder.path().join("skip.safetensors");
    file.save(&path).unwrap();
    let read = SkipFile::load(&path).unwrap();
    for (name, value) in &networks.0 {
        let layer: usize = name.split('.').nth(1).unwrap().parse().unwrap();
        let (adapter, controller) = (&read.adapters[&layer], &read.controllers[&layer]);
        let half = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
        let stored = match name.split_once(&format!(".{layer}.")).unwrap() {
            ("adapters", "norm") => adapter.norm.clone(),
            ("adapters", "up.weight") => half(&adapter.up),
            ("adapters", "down.weight") => half(&adapter.down),
            ("controllers", "norm") => controller.norm.clone(),
            ("controllers", "hidden.weight") => half(&controller.hidden),
            ("controllers", "out.weight") => controller.out.clone(),
            ("controllers", "bias") => vec![controller.bias],
            _ => panic!("{name}"),
        };
        assert_eq!(
            value.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            stored,
            "{name}"
        );
    }
}
