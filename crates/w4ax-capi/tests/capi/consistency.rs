//! The consistency rule from C and C++: the decisions of Rust.

use std::path::Path;

use rand::Rng;
use test_support::rng;
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{ConsistencyReason, ConsistencyRule, Profile, StepCosts};
use w4ax_capi::enums::CEnum;
use w4ax_capi::status::Status;

use crate::program::{Language, Link, Program, run, source};

const CALIBRATION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/data/robot/calibration.json"
);
const TASK: &str = "Stack";

/// A step: the chunk at each profile, `[2][chunk * 7]`, and the uncertainties.
type Step = ([Vec<f64>; 2], [f64; 2]);

/// 300 steps of a path with noise at the low profile, one of which is invalid.
fn steps(rng: &mut impl Rng, chunk: usize) -> Vec<Step> {
    let mut at = [0.1; 7];
    (0..300)
        .map(|step| {
            at = at.map(|x: f64| (x + rng.random_range(-0.08..0.08)).clamp(-1.0, 1.0));
            let high: Vec<f64> = (0..chunk).flat_map(|_| at).collect();
            let low = high.iter().map(|x| x + rng.random_range(-0.15..0.15));
            let mut low: Vec<f64> = low.collect();
            let mut high = high.clone();
            if step == 100 {
                (low[3], high[3]) = (f64::NAN, f64::NAN);
            }
            let mut uncertainty = || match rng.random_range(0..20) {
                0 => f64::NAN,
                _ => rng.random_range(0.0..0.4),
            };
            ([low, high], [uncertainty(), uncertainty()])
        })
        .collect()
}

/// The input of `consistency.c`.
fn file(steps: &[Step], chunk: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for count in [steps.len() as u32, chunk as u32] {
        bytes.extend(count.to_ne_bytes());
    }
    for ([low, high], uncertainty) in steps {
        for value in low.iter().chain(high).chain(uncertainty) {
            bytes.extend(value.to_ne_bytes());
        }
    }
    bytes
}

/// The expected output of `consistency.c`, and the reasons that occur.
fn expected(steps: &[Step], chunk: usize, calibration: &Path) -> (String, Vec<ConsistencyReason>) {
    let calibration = Calibration::load(calibration).unwrap();
    let config = calibration.consistency_config(TASK, Width::A2, Width::A4);
    let mut rule = ConsistencyRule::new(&config.unwrap().with_max_chunk(4)).unwrap();
    let (mut lines, mut reasons) = (String::new(), Vec::new());
    let index = |profile| match profile {
        Profile::Low => 0,
        Profile::High => 1,
    };
    for (chunks, uncertainty) in steps {
        let decided = rule.decide();
        let mut profile = decided.profile;
        let check = rule.verify(&chunks[index(profile)]);
        if !check.accepted {
            profile = Profile::High;
        }
        let mut chosen = chunks[index(profile)].clone();
        rule.command(&mut chosen, profile);
        let executed = if chunk > 1 { 2 } else { 1 };
        let known = Some(uncertainty[index(profile)]);
        let observed = match rule.observe_chunk(&chosen, executed, profile, known) {
            Ok(()) => Status::Ok,
            Err(_) => Status::NotFinite,
        };
        let bits = |value: Option<f64>| value.unwrap_or(f64::NAN).to_bits();
        lines += &format!(
            "{} {} {} {} {:016x} {:016x} {}\n",
            decided.profile.number(),
            decided.width.number(),
            decided.reason.number(),
            u32::from(check.accepted),
            bits(check.distance),
            bits(check.tolerance),
            observed.number(),
        );
        reasons.push(decided.reason);
    }
    let floors = calibration.consistency.unwrap().floors.unwrap();
    let floors: Vec<String> = floors
        .iter()
        .map(|floor| floor.bits().to_string())
        .collect();
    lines += &(floors.join(" ") + "\n");
    for costs in [
        [1.0, 2.0, 3.0, 4.0],
        [1.0, 1.0, 1.0, 2.0],
        [7.2, 7.2, 8.5, 12.1],
        [1.0; 4],
    ] {
        let mut useful: Vec<u32> = (StepCosts::new(costs).unwrap().useful())
            .map(Width::bits)
            .collect();
        let count = useful.len();
        useful.resize(4, 0);
        let useful: Vec<String> = useful.iter().map(u32::to_string).collect();
        lines += &format!("{count} {}\n", useful.join(" "));
    }
    (lines, reasons)
}

#[test]
fn consistency_rule_decides_as_rust() {
    let programs = [(Language::C99, Link::Shared), (Language::Cpp, Link::Static)]
        .map(|(language, link)| Program::build(&source("consistency.c"), language, link, &[]));
    let mut rng = rng(13);
    for (chunk, alpha) in [(1, 1.0), (1, 0.5), (4, 0.5)] {
        let steps = steps(&mut rng, chunk);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        let mut calibration = Calibration::load(CALIBRATION).unwrap();
        let rule = calibration.consistency.as_mut().unwrap();
        (rule.alpha, rule.refresh) = (alpha, 5);
        calibration.save(&path).unwrap();
        let (expected, reasons) = expected(&steps, chunk, &path);
        for reason in [
            ConsistencyReason::Start,
            ConsistencyReason::Fault,
            ConsistencyReason::Refresh,
            ConsistencyReason::NoUncertainty,
            ConsistencyReason::Gate,
            ConsistencyReason::Try,
        ] {
            assert!(
                reasons.contains(&reason),
                "the steps do not lead to {reason:?}"
            );
        }
        for program in &programs {
            let input = program.folder.path().join("steps");
            std::fs::write(&input, file(&steps, chunk)).unwrap();
            let mut command = program.command(&[]);
            let output = run(command.arg(&input).arg(&path).arg(TASK));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}
