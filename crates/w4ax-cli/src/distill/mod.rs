//! `w4ax distill`: two-stage distillation of adapters and controllers that skip a policy's layers
//! (DySL-VLA, arXiv 2602.22896).

use std::path::PathBuf;

use candle_core::DType;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use w4ax::Error;
use w4ax::skip::NetworkConfig;

mod options;

pub use options::Args;
use w4ax_robot::checkpoint::Checkpoint;
use w4ax_robot::dataset::Dataset;
use w4ax_robot::paths;
use w4ax_robot::table::table;
use w4ax_robot::training::batches::{self, Pool};
use w4ax_robot::training::evaluate::{Judge, Point, best_within};
use w4ax_robot::training::frozen::Frozen;
use w4ax_robot::training::plan::{Plan, fingerprint};
use w4ax_robot::training::state::Progress;
use w4ax_robot::training::train::{Trained, Trainer};
use w4ax_robot::training::{Result, similarity};

/// Shares of layers whose error is printed.
const SHARES: [f64; 6] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.75];

/// Runs the command.
///
/// # Errors
/// Invalid options and files. Those of the training.
pub fn run(args: &Args) -> Result<()> {
    // Parts of a batch run in parallel. candle's own threads spin after every operation, and would
    // compete.
    for variable in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var(variable, "1") };
    }
    let read = |path: &PathBuf| {
        let file = path.display().to_string();
        std::fs::read(path).map_err(|source| Error::Io { file, source })
    };
    paths::check("--policy", &args.policy)?;
    paths::check("--dataset", &args.dataset)?;
    let (policy, rows) = (read(&args.policy)?, read(&args.dataset)?);
    let checkpoint = Checkpoint::parse(&policy, &args.policy.display().to_string())?;
    let dataset = Dataset::parse(&rows, &args.dataset.display().to_string())?;
    dataset.check_tasks(checkpoint.tasks.len())?;
    let plan = args.plan(fingerprint(&[&policy, &rows]));
    plan.check()?;
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build();
    let threads = threads.map_err(|error| Error::Unavailable {
        requested: format!("{} threads", args.threads),
        reason: w4ax::Unavailable::NoThreads {
            reason: error.to_string(),
        },
    })?;
    if args.checkpoint_every == 0 {
        return Err(Error::Range {
            what: "checkpoint-every",
            value: "0".into(),
            range: "1 or more",
        }
        .into());
    }

    let frozen = Frozen::new(&checkpoint, DType::F32)?;
    let similarity = similarity::of(
        &frozen,
        &batches::inputs(&checkpoint, &dataset, &dataset.rows(false)),
    )?;
    let layers = plan.layers(&similarity)?;
    match plan.exit {
        Some(exit) => println!("exit at layer {exit} of {}", layers.len()),
        None => println!(
            "static {:?}, gaps {:?}",
            layers.static_layers().collect::<Vec<_>>(),
            layers
                .gaps()
                .iter()
                .map(|gap| gap.start..gap.end)
                .collect::<Vec<_>>()
        ),
    }
    let mut kept = args.out.clone().into_os_string();
    kept.push(".training");
    let kept = PathBuf::from(kept);
    let trainer = Trainer {
        frozen: &frozen,
        pool: &Pool::new(&checkpoint, &dataset),
        plan: &plan,
        layers: &layers,
        threads: &threads,
        checkpoint: &kept,
        every: args.checkpoint_every,
    };
    let bars = Bars::new(&plan);
    let trained = trainer.run(None, |progress| bars.show(progress))?;
    let Trained { networks, progress } = trained.expect("the run has no limit");

    let val = batches::inputs(&checkpoint, &dataset, &dataset.rows(true));
    let judge = Judge::new(&frozen, &batches::tensor(&val, DType::F32)?)?;
    let points = match plan.exit {
        Some(exit) => vec![judge.exiting(&frozen, &networks, exit)?],
        None => judge.curve(&frozen, &networks, &layers)?,
    };
    let config = NetworkConfig {
        layers: layers.len(),
        width: frozen.width(),
        static_layers: layers.static_layers().collect(),
        static_ratio: plan.static_ratio,
        similarity,
        adapter_hidden: plan.adapter_hidden,
        controller_hidden: plan.controller_hidden,
        lambda: plan.weights.lambda,
        seed: plan.seed,
        exit: plan.exit,
    };
    let mut file = networks.file(config, &layers)?;
    file.metrics = metrics(&plan, &progress, &points, val.len());
    let parameters = file.parameters();
    file.metrics.insert("parameters".into(), json!(parameters));
    file.save(&args.out)?;
    if kept.exists() {
        std::fs::remove_file(&kept).map_err(|source| Error::Io {
            file: kept.display().to_string(),
            source,
        })?;
    }
    println!(
        "{parameters} parameters, {:.0} s and {:.0} s; written to {}",
        progress.seconds[0],
        progress.seconds[1],
        args.out.display()
    );
    Ok(())
}

/// Prints the evaluation, and returns the metrics of the file.
fn metrics(plan: &Plan, progress: &Progress, points: &[Point], rows: usize) -> Map<String, Value> {
    let cells = |point: &Point| {
        [point.threshold, point.share, point.error]
            .map(|x| format!("{x:.4}"))
            .to_vec()
    };
    println!("on {rows} rows that neither the policy nor the networks were trained on:");
    println!(
        "{}",
        table(
            &["threshold", "layers run", "action error"],
            points.iter().map(cells)
        )
    );
    let best = SHARES.map(|share| (share, best_within(points, share)));
    for (share, point) in best {
        if let Some(Point {
            threshold,
            share: ran,
            error,
        }) = point
        {
            println!("within {share}: error {error:.4} at threshold {threshold:.4} ({ran:.4} run)");
        }
    }
    let metrics = json!({
        "plan": plan,
        "losses": progress.losses,
        "seconds": progress.seconds,
        "samples": plan.steps.map(|steps| steps * plan.batch),
        "val_rows": rows,
        "val": points,
    });
    match metrics {
        Value::Object(metrics) => metrics,
        _ => unreachable!("the value is an object"),
    }
}

/// A progress bar for each stage.
struct Bars {
    bars: [ProgressBar; 2],
}

impl Bars {
    fn new(plan: &Plan) -> Self {
        let style =
            "{prefix} [{bar:40}] {pos}/{len} {elapsed_precise} eta {eta_precise} loss {msg}";
        let style = ProgressStyle::with_template(style).expect("the template is sound");
        let bar = |stage: usize| {
            let bar = ProgressBar::new(plan.steps[stage] as u64).with_style(style.clone());
            bar.with_prefix(format!("stage {}", stage + 1))
        };
        Self {
            bars: [bar(0), bar(1)],
        }
    }

    fn show(&self, progress: &Progress) {
        let bar = &self.bars[progress.stage];
        bar.set_position(progress.step as u64);
        if let Some(loss) = progress.losses[progress.stage] {
            bar.set_message(format!("{loss:.4}"));
        }
        if progress.step as u64 == bar.length().unwrap_or(0) {
            bar.abandon();
        }
    }
}
