//! The parameters and the loss of each stage.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor, Var};
use rayon::ThreadPool;
use w4ax::skip::Layers;

use crate::{POLICY, ROWS, plan};
use w4ax_robot::training::batches::{self, Pool, generator};
use w4ax_robot::training::frozen::Frozen;
use w4ax_robot::training::losses::{self, Teacher};
use w4ax_robot::training::networks::{self, Networks, Sizes};
use w4ax_robot::training::optimizer::{Optimizer, scalar};
use w4ax_robot::training::plan::Plan;
use w4ax_robot::training::state::{self, Progress};
use w4ax_robot::training::train::Trainer;

/// The inputs of a training, except for its plan.
struct Course {
    frozen: Frozen,
    pool: Pool,
    layers: Layers,
    threads: ThreadPool,
}

impl Course {
    fn of(plan: &Plan) -> Self {
        let static_layers: Vec<usize> = match plan.exit {
            Some(_) => (0..16).collect(),
            None => vec![0, 1, 7],
        };
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2);
        Self {
            frozen: Frozen::new(&POLICY, DType::F32).unwrap(),
            pool: Pool::new(&POLICY, &ROWS),
            layers: Layers::new(16, &static_layers).unwrap(),
            threads: threads.build().unwrap(),
        }
    }

    fn trainer<'a>(&'a self, plan: &'a Plan, checkpoint: &'a Path) -> Trainer<'a> {
        Trainer {
            frozen: &self.frozen,
            pool: &self.pool,
            plan,
            layers: &self.layers,
            threads: &self.threads,
            checkpoint,
            every: 1,
        }
    }

    /// Returns the first networks.
    fn initial(&self, plan: &Plan) -> BTreeMap<String, Var> {
        let sizes = Sizes {
            width: 192,
            adapter: plan.adapter_hidden,
            controller: plan.controller_hidden,
        };
        let (exit, rng) = (plan.exit.is_some(), &mut generator(plan.seed, 2, 0));
        networks::initial(&self.layers, exit, sizes, DType::F32, rng).unwrap()
    }

    /// Returns the content of the checkpoint.
    fn kept(&self, plan: &Plan, checkpoint: &Path) -> (Optimizer, Progress) {
        let mut optimizer = Optimizer::new(self.initial(plan)).unwrap();
        let progress = state::load(checkpoint, plan, &mut optimizer).unwrap();
        (optimizer, progress)
    }

    fn stage_1(&self, plan: &Plan, vars: &BTreeMap<String, Var>, teacher: &Teacher) -> f64 {
        let networks = Networks::of(vars);
        let loss = losses::stage_1(&networks, &self.layers, plan.exit, teacher);
        scalar(&loss.unwrap()).unwrap()
    }

    /// Returns the loss of a stage's first step, for its drawn rows and layers.
    fn first_loss(&self, plan: &Plan, stage: usize, vars: &BTreeMap<String, Var>) -> f64 {
        let mut rng = generator(plan.seed, stage, 0);
        let drawn = losses::draw(&self.layers, &mut rng);
        let rows = self.pool.draw(plan.batch, plan.disturb, &mut rng);
        let networks = Networks::of(vars);
        let part = |rows| {
            let input = batches::tensor(rows, DType::F32).unwrap();
            let teacher = Teacher::of(&self.frozen, &input).unwrap();
            let (frozen, weights) = (&self.frozen, plan.weights);
            if stage == 0 {
                return self.stage_1(plan, vars, &teacher);
            }
            let loss = match plan.exit {
                Some(exit) => losses::exit(frozen, &networks, exit, &teacher, weights),
                None => losses::stage_2(frozen, &networks, &self.layers, &teacher, &drawn, weights),
            };
            scalar(&loss.unwrap()).unwrap()
        };
        let parts = rows.chunks(plan.batch / plan.parts).map(part);
        parts.sum::<f64>() / plan.parts as f64
    }
}

/// Returns the largest difference of two tensors.
fn moved(a: &Tensor, b: &Tensor) -> f64 {
    let off = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    scalar(&off.max(0).unwrap()).unwrap()
}

#[test]
fn stage_1_trains_adapters_only() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("run");
    let plan = Plan {
        adapter_hidden: 32,
        steps: [30, 1],
        rate: 2e-2,
        ..plan(7)
    };
    let course = Course::of(&plan);
    let ended = course.trainer(&plan, &at).run(Some(30), |_| ()).unwrap();
    assert!(ended.is_none(), "stage 2 is not done");
    let (first, (kept, progress)) = (course.initial(&plan), course.kept(&plan, &at));
    assert_eq!((progress.stage, progress.step), (1, 0));
    assert!(progress.losses[0].is_some() && progress.losses[1].is_none());
    assert!(progress.seconds[0] > 0.0 && progress.seconds[1] == 0.0);

    for (name, var) in &kept.vars {
        let far = moved(var, &first[name]);
        match name.starts_with("adapters") {
            true => assert!(far > 1e-3, "{name}: {far}"),
            // Stage 2 begins with the averages, which are rounded.
            false => assert!(far < 1e-5, "{name}: {far}"),
        }
    }
    let rows: Vec<usize> = ROWS.rows(true).into_iter().step_by(50).collect();
    let input = batches::tensor(&batches::inputs(&POLICY, &ROWS, &rows), DType::F32).unwrap();
    let teacher = Teacher::of(&course.frozen, &input).unwrap();
    let loss = |vars| course.stage_1(&plan, vars, &teacher);
    let (before, after) = (loss(&first), loss(&kept.vars));
    assert!(after < 0.95 * before, "{before} {after}");
}

/// Two stages, stage 2 alone, and an exit's two: the first loss of each is that of the networks at
/// that time. The result is the averages.
#[test]
fn each_stage_follows_its_loss() {
    let folder = tempfile::tempdir().unwrap();
    for (name, steps, exit) in [
        ("two", [1, 2], None),
        ("joint", [0, 3], None),
        ("exit", [1, 2], Some(6)),
    ] {
        let at = folder.path().join(name);
        let plan = Plan {
            steps,
            exit,
            ..plan(7)
        };
        let course = Course::of(&plan);
        let trainer = course.trainer(&plan, &at);
        let mut seen = Vec::new();
        let mut run = |limit| {
            let keep = |progress: &Progress| seen.push((progress.stage, progress.losses));
            trainer.run(limit, keep).unwrap()
        };
        assert!(run(Some(steps[0])).is_none());
        let (begun, _) = course.kept(&plan, &at);
        let trained = run(None).unwrap();

        let stages: Vec<usize> = seen.iter().map(|(stage, _)| *stage).collect();
        assert_eq!(stages, [vec![0; steps[0]], vec![1; steps[1]]].concat());
        let (first, second) = (course.initial(&plan), &begun.vars);
        for (stage, vars) in [(0, &first), (1, second)] {
            let got = seen.iter().find(|(at, _)| *at == stage);
            let wanted = (steps[stage] > 0).then(|| course.first_loss(&plan, stage, vars));
            match (got.and_then(|(_, losses)| losses[stage]), wanted) {
                (None, None) => assert_eq!((name, stage), ("joint", 0)),
                (Some(got), Some(wanted)) => {
                    assert!(
                        (got - wanted).abs() < 1e-6,
                        "{name}, {stage}: {got} {wanted}"
                    )
                }
                other => panic!("{name}, {stage}: {other:?}"),
            }
        }
        assert_eq!(trained.progress.losses[0].is_some(), steps[0] > 0);
        assert_eq!(trained.progress.seconds[0] > 0.0, steps[0] > 0);

        let (kept, _) = course.kept(&plan, &at);
        let average = Networks(kept.average).rounded().unwrap();
        for (parameter, value) in &trained.networks.0 {
            assert_eq!(moved(value, &average.0[parameter]), 0.0, "{parameter}");
        }
        // Adapters of drawn layers change, and so does every controller, because each weighs the
        // risk.
        let drawn: Vec<usize> = (0..steps[1])
            .flat_map(|step| losses::draw(&course.layers, &mut generator(plan.seed, 1, step)))
            .collect();
        for (parameter, var) in &kept.vars {
            let moves = match *parameter.split('.').collect::<Vec<_>>() {
                ["adapters", layer, "down", _] => drawn.contains(&layer.parse().unwrap()),
                ["controllers", _, "bias"] | ["exit", "down", _] => true,
                _ => continue,
            };
            let far = moved(var, &second[parameter]);
            assert_eq!(far > 0.0, moves, "{name}: {parameter} by {far}");
        }
    }
}
