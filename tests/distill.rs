//! The distillation: its gradients, what it draws, that a run can stop and go on, what it says of files that are not its own.

#[path = "../examples/robot/mod.rs"]
mod robot;
#[path = "support/safetensors.rs"]
mod tensors;
#[path = "../examples/distill/training/mod.rs"]
mod training;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use robot::checkpoint::{Block, Checkpoint, Matrix};
use robot::dataset::{Dataset, RECORDED};
use robot::rollouts::{INPUT, OBS};
use safetensors::Dtype;
use tensors::TensorFile;
use training::batches::{self, Disturb, Pool, generator};
use training::evaluate::Judge;
use training::frozen::Frozen;
use training::losses::{self, Teacher, Weights};
use training::networks::{self, Networks, Sizes};
use training::optimiser::{Optimiser, scalar};
use training::plan::{Plan, fingerprint};
use training::state::{self, Progress};
use training::train::{Trained, Trainer};
use training::{Failure, similarity};
use w4ax::Error;
use w4ax::skip::{Layers, NetworkConfig, SkipFile};

const DEEP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/robot-deep/deep_policy.safetensors"
);

static POLICY: LazyLock<Checkpoint> = LazyLock::new(|| Checkpoint::load(DEEP).unwrap());
static ROWS: LazyLock<Dataset> = LazyLock::new(|| Dataset::load(RECORDED).unwrap());

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A stack of `layers` blocks of width 6, with 7 tokens of 4 values.
fn tiny(layers: usize) -> Checkpoint {
    let mut rng = rng(1);
    let mut matrix = |n: usize, k: usize| Matrix {
        n,
        k,
        data: (0..n * k)
            .map(|_| bf16::from_f32(rng.random_range(-1.0..1.0)))
            .collect(),
    };
    let (d, h) = (6, 8);
    let block = |matrix: &mut dyn FnMut(usize, usize) -> Matrix| Block {
        norm: (0..d).map(|i| 0.8 + 0.1 * i as f32).collect(),
        gate: matrix(h, d),
        up: matrix(h, d),
        down: matrix(d, h),
    };
    Checkpoint {
        tasks: vec!["one".into()],
        obs_mean: [0.0; OBS],
        obs_std: [1.0; OBS],
        inp: matrix(d, INPUT),
        blocks: (0..layers).map(|_| block(&mut matrix)).collect(),
        norm: vec![1.1; d],
        head: matrix(7 * 4, d),
    }
}

/// The tiny stack in f64 with networks that do something, and what it gives for 5 rows.
struct Bench {
    frozen: Frozen,
    layers: Layers,
    vars: BTreeMap<String, Var>,
    teacher: Teacher,
}

impl Bench {
    fn new(n: usize, static_layers: &[usize], exit: bool) -> Self {
        let frozen = Frozen::new(&tiny(n), DType::F64).unwrap();
        let layers = Layers::new(n, static_layers).unwrap();
        let sizes = Sizes {
            width: 6,
            adapter: 3,
            controller: 4,
        };
        let mut rng = rng(2);
        let vars = networks::initial(&layers, exit, sizes, DType::F64, &mut rng).unwrap();
        for (name, var) in &vars {
            // Adapters begin as the identity, where a part of the gradients is 0.
            let values: Vec<f64> = (0..var.elem_count())
                .map(|_| rng.random_range(-0.7..0.7) + f64::from(name.ends_with("norm") as u8))
                .collect();
            let values = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
            var.set(&values).unwrap();
        }
        let input: Vec<f64> = (0..5 * INPUT)
            .map(|_| rng.random_range(-0.5..0.5))
            .collect();
        let input = Tensor::from_vec(input, (5, INPUT), &Device::Cpu).unwrap();
        let teacher = Teacher::of(&frozen, &input).unwrap();
        Self {
            frozen,
            layers,
            vars,
            teacher,
        }
    }

    fn stage_2(&self, drawn: &[usize], weights: Weights) -> Tensor {
        let networks = Networks::of(&self.vars);
        let (frozen, layers) = (&self.frozen, &self.layers);
        losses::stage_2(frozen, &networks, layers, &self.teacher, drawn, weights).unwrap()
    }

    /// Compares each gradient of `loss` with its central difference, and says of how many numbers it is not 0.
    fn check(&self, concerned: impl Fn(&str) -> bool, loss: impl Fn() -> Tensor) -> usize {
        const STEP: f64 = 1e-5;
        let gradients = loss().backward().unwrap();
        let mut moved = 0;
        for (name, var) in self.vars.iter().filter(|(name, _)| concerned(name)) {
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = flat(var);
            let got = match gradients.get(var) {
                Some(gradient) => flat(gradient),
                None => vec![0.0; values.len()],
            };
            for (i, &got) in got.iter().enumerate() {
                let at = |delta: f64| {
                    let mut values = values.clone();
                    values[i] += delta;
                    let values = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
                    var.set(&values).unwrap();
                    scalar(&loss()).unwrap()
                };
                let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                at(0.0);
                assert!(
                    (got - expected).abs() < 1e-7 + 1e-5 * expected.abs(),
                    "{name}[{i}]: {got}, finite differences give {expected}"
                );
                moved += usize::from(expected.abs() > 1e-6);
            }
        }
        moved
    }
}

const PAPER: Weights = Weights {
    lambda: 0.01,
    whole: 0.0,
    distance: 0.0,
    risk: 0.0,
};

#[test]
fn gradients_of_stage_1_are_those_of_finite_differences() {
    let bench = Bench::new(5, &[0, 3], false);
    let exit = Bench::new(4, &[0, 1, 2, 3], true);
    for (bench, from, adapters) in [(&bench, None, 3), (&exit, Some(2), 1)] {
        let loss = || {
            let networks = Networks::of(&bench.vars);
            losses::stage_1(&networks, &bench.layers, from, &bench.teacher).unwrap()
        };
        let moved = bench.check(|_| true, loss);
        // norm, up, down of each; controllers have no part in it.
        assert!(moved > adapters * 36, "{moved}");
        assert!(moved <= adapters * (6 + 18 + 18), "{moved}");
    }
}

#[test]
fn gradients_of_stage_2_are_those_of_finite_differences() {
    let bench = Bench::new(6, &[0, 3], false);
    let networks = 2 * (42 + 6 + 24 + 4 + 1);
    for drawn in [[1, 4], [2, 5], [1, 5]] {
        let moved = bench.check(|_| true, || bench.stage_2(&drawn, PAPER));
        assert!(moved > networks * 8 / 10 && moved <= networks, "{moved}");
        let whole = Weights {
            whole: 0.7,
            lambda: 0.5,
            ..PAPER
        };
        bench.check(|_| true, || bench.stage_2(&drawn, whole));
    }
    // Where a skip leads to and what it risks are targets, not to be moved: their gradient is left out.
    let one_gap = Bench::new(4, &[0], false);
    let distance = Weights {
        distance: 0.3,
        ..PAPER
    };
    one_gap.check(|_| true, || one_gap.stage_2(&[2], distance));
    let risk = Weights { risk: 0.4, ..PAPER };
    let controllers = |name: &str| name.starts_with("controllers");
    bench.check(controllers, || bench.stage_2(&[2, 4], risk));
    let exit = Bench::new(4, &[0, 1, 2, 3], true);
    let moved = exit.check(
        |_| true,
        || {
            let networks = Networks::of(&exit.vars);
            losses::exit(&exit.frozen, &networks, 2, &exit.teacher, distance).unwrap()
        },
    );
    assert!(moved > 36, "{moved}");
}

/// With p at 0 the full stack's output remains and every layer is paid for; with p at 1 the adapters', and none is.
#[test]
fn stage_2_at_its_ends_is_what_can_be_written_down() {
    let bench = Bench::new(6, &[0, 3], false);
    let set = |logit: f64| {
        for (name, var) in &bench.vars {
            if name.starts_with("controllers") {
                let to = if name.ends_with("bias") { logit } else { 0.0 };
                var.set(&var.ones_like().unwrap().affine(to, 0.0).unwrap())
                    .unwrap();
            }
        }
    };
    set(-40.0);
    let loss = scalar(&bench.stage_2(&[1, 4], PAPER)).unwrap();
    // Two layers saved from 1 to 3, two from 4 to 6.
    assert!((loss - 0.01 * 4.0).abs() < 1e-12, "{loss}");
    set(40.0);
    let skipped = scalar(&bench.stage_2(&[1, 4], PAPER)).unwrap();
    let networks = Networks::of(&bench.vars);
    let x = networks
        .adapter("adapters.1", &bench.teacher.states[1])
        .unwrap();
    let x = bench.frozen.block(3, &x).unwrap();
    let x = networks.adapter("adapters.4", &x).unwrap();
    let task = bench.frozen.task_loss(&x, &bench.teacher.logits).unwrap();
    let task = scalar(&task).unwrap();
    assert!(
        task > 0.01 && (skipped - task).abs() < 1e-12,
        "{skipped} {task}"
    );
    // A risky skip costs p^2 times the distance of actions, for each layer of the gap, from each dynamic layer: 1, 2, 4 and 5.
    let risk = Weights { risk: 0.1, ..PAPER };
    let risky = scalar(&bench.stage_2(&[1, 4], risk)).unwrap();
    let distance = losses::risk(&bench.teacher.logits, &bench.frozen.logits(&x).unwrap()).unwrap();
    let distance = scalar(&distance.mean_all().unwrap()).unwrap();
    assert!(
        (risky - task - 0.1 * 8.0 * distance).abs() < 1e-12,
        "{risky}"
    );
}

/// Two tokens' distributions of two values each: by hand.
#[test]
fn risk_is_the_distance_of_actions_that_are_drawn() {
    let logits = |p: f64| {
        let mut logits = [[0f64, -80.0]; 7];
        logits[6] = [p.ln(), (1.0 - p).ln()];
        Tensor::new(&[logits], &Device::Cpu).unwrap()
    };
    // -1 with p and 1 else: the mean square distance is 4 times the probability of not being the same.
    let (a, b): (f64, f64) = (0.9, 0.6);
    let got = losses::risk(&logits(a), &logits(b)).unwrap();
    let expected = (4.0 * (a * (1.0 - b) + (1.0 - a) * b)).sqrt();
    assert!(
        (scalar(&got.squeeze(0).unwrap().squeeze(0).unwrap()).unwrap() - expected).abs() < 1e-12
    );
}

#[test]
fn layers_are_drawn_with_harmonic_weights() {
    let layers = Layers::new(16, &[0, 1, 7]).unwrap();
    let mut rng = rng(3);
    const DRAWS: usize = 40_000;
    let mut counts = [0usize; 16];
    for _ in 0..DRAWS {
        for layer in losses::draw(&layers, &mut rng) {
            counts[layer] += 1;
        }
    }
    for gap in layers.gaps() {
        let all: f64 = (1..=gap.end - gap.start).map(|k| 1.0 / k as f64).sum();
        for (k, &count) in (1..).zip(&counts[gap.start..gap.end]) {
            let p = 1.0 / (f64::from(k) * all);
            let expected = p * DRAWS as f64;
            let deviation = (expected * (1.0 - p)).sqrt();
            let off = (count as f64 - expected).abs();
            assert!(
                off < 4.0 * deviation,
                "{gap:?}, {k}: {count} for {expected}"
            );
        }
    }
    assert_eq!(counts[0] + counts[1] + counts[7], 0);
}

#[test]
fn the_optimiser_is_candles_adamw() {
    let value = Tensor::new(&[0.3f32, -1.2, 2.0], &Device::Cpu).unwrap();
    let (ours, theirs) = (
        Var::from_tensor(&value).unwrap(),
        Var::from_tensor(&value).unwrap(),
    );
    let mut optimiser = Optimiser::new([("a".to_owned(), ours.clone())].into()).unwrap();
    let params = ParamsAdamW {
        lr: 0.01,
        weight_decay: 0.1,
        ..Default::default()
    };
    let mut adamw = AdamW::new(vec![theirs.clone()], params).unwrap();
    for step in 0..5 {
        let loss = |var: &Var| {
            (var.sqr().unwrap() * (1.0 + f64::from(step)))
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let gradients = loss(&ours).backward().unwrap();
        let gradients = [("a".to_owned(), gradients.get(&ours).unwrap().clone())].into();
        optimiser
            .step(&gradients, 0.01, 0.1, f64::INFINITY)
            .unwrap();
        adamw.backward_step(&loss(&theirs)).unwrap();
        assert_eq!(
            ours.to_vec1::<f32>().unwrap(),
            theirs.to_vec1::<f32>().unwrap()
        );
    }
    // Clipped: the direction of a first step is the gradient's sign, its moment tells its size.
    let mut clipped = Optimiser::new([("a".to_owned(), ours)].into()).unwrap();
    let gradient = Tensor::new(&[3f32, 0.0, 4.0], &Device::Cpu).unwrap();
    clipped
        .step(&[("a".to_owned(), gradient)].into(), 0.01, 0.0, 1.0)
        .unwrap();
    let moment = clipped.first["a"].to_vec1::<f32>().unwrap();
    assert!(
        moment
            .iter()
            .zip([0.06, 0.0, 0.08])
            .all(|(a, b)| (a - b).abs() < 1e-6),
        "{moment:?}"
    );
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
            mixed: 0.5,
        },
        steps: [5, 6],
        batch: 8,
        parts: 2,
        rate: 1e-3,
        decay: 0.01,
        clip: 1.0,
        seed,
    }
}

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
fn a_run_is_the_same_again_with_any_threads_and_however_often_it_stops() {
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

    // A run that was killed has the last checkpoint before: of step 4 of stage 2, with steps of 5 and 6.
    assert!(at("whole").is_file());
    let killed = train(&plan(7), 2, None, &at("whole")).unwrap();
    assert_eq!(bits(&whole), bits(&killed));
    assert_eq!(killed.progress.step, 6);
}

#[test]
fn a_checkpoint_that_is_not_the_runs_own_is_refused() {
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
        Optimiser::new(vars.unwrap()).unwrap()
    };
    let mut progress = Progress {
        step: 4,
        optimiser_steps: 4,
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
                assert!(reason.contains(what), "`{reason}` does not say `{what}`")
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
    refused(&plan(7), "the format is not");
    spoil(&|file| file.describe("plan", "{}"));
    refused(&plan(7), "`plan`");
    spoil(&|file| file.describe("progress", "[]"));
    refused(&plan(7), "`progress`");
    spoil(&|file| file.remove("first.adapters.2.norm"));
    refused(&plan(7), "first.adapters.2.norm");
    spoil(&|file| file.copy("first.adapters.2.norm", "first.adapters.7.norm"));
    refused(&plan(7), "no tensor `first.adapters.7.norm`");
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
    refused(&plan(7), "must be F32 [192]");
    spoil(&|file| {
        file.set(
            "second.adapters.2.norm",
            Dtype::F32,
            &[192],
            floats(f32::NAN, 192),
        )
    });
    refused(&plan(7), "not finite");
    for (stage, step, optimiser_steps) in [(2, 0, 0), (0, 6, 6), (1, 7, 7), (0, 1, 9)] {
        progress = Progress {
            stage,
            step,
            optimiser_steps,
            ..Default::default()
        };
        spoil(&|file| file.describe("progress", &serde_json::to_string(&progress).unwrap()));
        refused(&plan(7), "beyond the plan");
    }
}

/// What is evaluated is what the file holds, and a row alone, layer by layer, goes the way that the batch says.
#[test]
fn shares_and_errors_are_those_of_rows_run_one_by_one() {
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
            let mut x = frozen.embed(&input).unwrap();
            let mut layer = 0;
            while layer < 16 {
                if let Some(gap) = layers.gap_of(layer) {
                    let p = networks.controller(layer, &x).unwrap();
                    if scalar(&p.squeeze(0).unwrap().squeeze(0).unwrap()).unwrap() > threshold {
                        x = networks.adapter(&format!("adapters.{layer}"), &x).unwrap();
                        layer = layers.gaps()[gap].end;
                        continue;
                    }
                }
                x = frozen.block(layer, &x).unwrap();
                layer += 1;
                ran += 1;
            }
            let states = frozen.states(&input).unwrap();
            let tokens = |x: &Tensor| {
                frozen
                    .tokens(x)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<u32>()
                    .unwrap()
            };
            let squares = tokens(&x).into_iter().zip(tokens(&states[16]));
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

/// The data's README has these figures.
#[test]
fn layers_change_their_input_as_recorded() {
    let frozen = Frozen::new(&POLICY, DType::F32).unwrap();
    let inputs = batches::inputs(&POLICY, &ROWS, &ROWS.rows(false));
    let similarity = similarity::of(&frozen, &inputs).unwrap();
    let recorded = [
        0.541, 0.874, 0.968, 0.973, 0.975, 0.976, 0.973, 0.967, 0.973, 0.974, 0.978, 0.979, 0.980,
        0.984, 0.978, 0.985,
    ];
    for (layer, (got, recorded)) in similarity.iter().zip(recorded).enumerate() {
        assert!(
            (got - recorded).abs() < 2e-3,
            "{layer}: {got}, recorded {recorded}"
        );
    }
    for (static_ratio, expected) in [
        (Some(0.2), vec![0, 1, 7]),
        (Some(0.1), vec![0]),
        (None, vec![]),
    ] {
        let plan = Plan {
            static_ratio,
            ..plan(0)
        };
        let layers = plan.layers(&similarity).unwrap();
        assert_eq!(layers.static_layers().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn rows_are_disturbed_as_far_as_asked() {
    let pool = Pool::new(&POLICY, &ROWS);
    assert_eq!(pool.len(), 30_234 - 1_594);
    let still = Disturb {
        noise: 0.0,
        between: 0.0,
        mixed: 0.0,
    };
    let mut known: Vec<_> = batches::inputs(&POLICY, &ROWS, &ROWS.rows(false));
    known.sort_by(|a, b| a.partial_cmp(b).unwrap());
    for input in pool.draw(50, still, &mut rng(4)) {
        assert!(
            known
                .binary_search_by(|row| row.partial_cmp(&input).unwrap())
                .is_ok()
        );
    }
    // The same rows, with noise: of the spread asked for, and the task is left alone.
    let noisy = Disturb {
        noise: 0.1,
        ..still
    };
    let mut logs = Vec::new();
    for step in 0..400 {
        let (a, b) = (
            pool.draw(1, still, &mut rng(step)),
            pool.draw(1, noisy, &mut rng(step)),
        );
        let inside = |&(a, b): &(&f32, &f32)| a.abs() < 4.0 && b.abs() < 4.0;
        let pairs: Vec<_> = a[0].iter().zip(&b[0]).take(OBS).filter(inside).collect();
        let mean = pairs
            .iter()
            .map(|(a, b)| f64::from(*a - *b).powi(2))
            .sum::<f64>()
            / pairs.len() as f64;
        logs.push(0.5 * mean.ln());
        assert_eq!(a[0][OBS..], b[0][OBS..]);
        assert!(b[0].iter().all(|x| x.abs() <= 5.0));
    }
    logs.sort_by(f64::total_cmp);
    let median = logs[logs.len() / 2].exp();
    assert!((median / 0.1 - 1.0).abs() < 0.15, "{median}");
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(0);
        change(&mut plan);
        assert!(matches!(plan.check(), Err(Error::Range { .. })), "{plan:?}");
    };
    plan(0).check().unwrap();
    refused(&|plan| plan.batch = 0);
    refused(&|plan| plan.batch = 9);
    refused(&|plan| plan.parts = 0);
    refused(&|plan| plan.adapter_hidden = 0);
    refused(&|plan| plan.controller_hidden = 0);
    refused(&|plan| plan.steps[1] = 0);
    refused(&|plan| plan.weights.lambda = -1.0);
    refused(&|plan| plan.weights.risk = f64::NAN);
    refused(&|plan| plan.disturb.noise = f64::INFINITY);
    refused(&|plan| plan.disturb.between = 1.5);
    refused(&|plan| plan.disturb.mixed = -0.1);
    refused(&|plan| plan.rate = 0.0);
    refused(&|plan| plan.clip = f64::NAN);
    let exit = Plan {
        exit: Some(16),
        ..plan(0)
    };
    assert!(matches!(exit.layers(&[0.5; 16]), Err(Error::Range { .. })));
    assert_ne!(fingerprint(&[b"a", b"b"]), fingerprint(&[b"a", b"c"]));
}

#[test]
fn the_dataset_is_the_recorded_one_and_spoiled_ones_are_refused() {
    assert_eq!((ROWS.len(), ROWS.rows(true).len()), (30_234, 1_594));
    ROWS.check_tasks(6).unwrap();
    assert!(matches!(ROWS.check_tasks(5), Err(Error::Range { .. })));
    let refused = |change: &dyn Fn(&mut TensorFile), what: &str| {
        let mut file = TensorFile::new();
        let floats: Vec<u8> = [0.5f32; 2 * OBS]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        file.set("obs", Dtype::F32, &[2, OBS], floats);
        for (name, values) in [
            ("task", [1, 1]),
            ("phase", [0, 1]),
            ("noisy", [0, 1]),
            ("val", [0, 1]),
        ] {
            file.set(name, Dtype::U8, &[2], values.to_vec());
        }
        file.set("tokens", Dtype::U8, &[2, 7], vec![3; 14]);
        let words = |a: i32, b: i32| [a.to_le_bytes(), b.to_le_bytes()].concat();
        file.set("episode", Dtype::I32, &[2], words(4, 4));
        file.set("t", Dtype::I32, &[2], words(0, 2));
        change(&mut file);
        match Dataset::parse(&file.bytes(), "rows") {
            Ok(dataset) => assert_eq!((dataset.len(), what), (2, "")),
            Err(Error::Format { reason, .. }) => {
                assert!(
                    !what.is_empty() && reason.contains(what),
                    "`{reason}` does not say `{what}`"
                )
            }
            Err(Error::MissingTensor { name, .. }) => assert_eq!(name, what),
            Err(other) => panic!("{other}"),
        }
    };
    refused(&|_| (), "");
    refused(&|file| file.remove("noisy"), "noisy");
    refused(&|file| file.remove("val"), "val");
    refused(
        &|file| file.set("phase", Dtype::U8, &[2], vec![0, 8]),
        "`phase` is 8 at row 1",
    );
    refused(
        &|file| file.set("val", Dtype::U8, &[2], vec![1, 2]),
        "`val` is 2 at row 1",
    );
    refused(
        &|file| file.set("val", Dtype::U8, &[2], vec![1, 1]),
        "no row",
    );
    refused(
        &|file| file.set("task", Dtype::I32, &[2], vec![0; 8]),
        "`task` must be",
    );
    refused(
        &|file| file.set("t", Dtype::I32, &[2], vec![0; 8]),
        "`t` is 0 at row 1",
    );
    let infinite: Vec<u8> = [f32::INFINITY; 2 * OBS]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    refused(
        &|file| file.set("obs", Dtype::F32, &[2, OBS], infinite.clone()),
        "must be finite",
    );
    assert!(matches!(
        Dataset::parse(b"no", "rows"),
        Err(Error::Format { .. })
    ));
}
