//! The dispatcher and the flag from C and C++: the decisions of Rust.

use rand::Rng;
use test_support::{dispatch_config, rng};
use w4ax::dispatch::{ActionLayout, Algorithm, DispatchConfig, Dispatcher, Reason};
use w4ax_capi::enums::{CEnum, ReasonKind};
use w4ax_capi::status::Status;

use crate::program::{Language, Link, Program, run, source};

/// 600 random actions with changes of speed, one of which is invalid.
fn actions(rng: &mut impl Rng) -> Vec<[f64; 7]> {
    let mut speed = 0.0;
    (0..600)
        .map(|step| {
            if step % 15 == 0 {
                speed = rng.random_range(0.0..0.5);
            }
            let mut action = [speed; 7];
            action[3] = rng.random_range(-0.1..0.1) * speed;
            if step == 300 {
                action[4] = f64::NAN;
            }
            action
        })
        .collect()
}

/// The input of `dispatch.c`.
fn file<const N: usize>(config: &DispatchConfig, actions: &[[f64; N]]) -> Vec<u8> {
    let numbers = [
        config.lambda(),
        config.motion().mu_max,
        config.motion().nu_max,
        config.thresholds().theta_24,
        config.thresholds().theta_48,
        config.thresholds().theta_fp,
    ];
    let counts = [
        config.window_macro() as u32,
        config.window_micro() as u32,
        config.k(),
        config.algorithm().number(),
        actions.len() as u32,
    ];
    [
        bytemuck::cast_slice(&numbers),
        bytemuck::cast_slice(&counts),
        bytemuck::cast_slice(actions.as_flattened()),
    ]
    .concat()
}

/// The expected output of `dispatch.c`.
fn expected<const N: usize>(dispatcher: &mut Dispatcher, actions: &[[f64; N]]) -> String {
    let mut lines = String::new();
    for action in actions {
        let d = dispatcher.decide();
        let (count, pending) = match d.reason {
            Reason::Held { count, pending } => (count, pending.number()),
            _ => (0, 0),
        };
        let observed = match dispatcher.observe(action) {
            Ok(()) => Status::Ok,
            Err(_) => Status::NotFinite,
        };
        lines += &format!(
            "{:016x} {} {} {} {count} {pending} {}\n",
            d.sensitivity.to_bits(),
            d.target.number(),
            d.active.number(),
            ReasonKind::from(d.reason).number(),
            observed.number(),
        );
    }
    lines
}

#[test]
fn decides_as_rust() {
    let programs = [(Language::C99, Link::Shared), (Language::Cpp, Link::Static)]
        .map(|(language, link)| Program::build(&source("dispatch.c"), language, link, &[]));
    let mut rng = rng(11);
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        let config = dispatch_config().with_algorithm(algorithm);
        let actions = actions(&mut rng);
        let (file, expected) = (
            file(&config, &actions),
            expected(&mut Dispatcher::new(&config).unwrap(), &actions),
        );
        for (_, reason, name) in ReasonKind::ROWS {
            let reason = reason.to_string();
            let mut lines = expected.lines();
            let found = lines.any(|line| line.split(' ').nth(3) == Some(&reason));
            assert!(found, "the motion does not lead to {name}");
        }
        for program in &programs {
            let path = program.folder.path().join("motion");
            std::fs::write(&path, &file).unwrap();
            let output = run(program.command(&[]).arg(&path));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}

#[test]
fn decides_as_rust_for_another_layout() {
    let program = Program::build(&source("dispatch.c"), Language::C99, Link::Shared, &[]);
    let mut rng = rng(12);
    let mut at = [0.0; 14];
    let actions: Vec<[f64; 14]> = (0..600)
        .map(|step| {
            let speed = if step % 40 < 20 { 0.5 } else { 0.02 };
            at = at.map(|x| x + rng.random_range(-speed..speed));
            let mut action = at;
            if step == 300 {
                action[9] = f64::INFINITY;
            }
            action
        })
        .collect();
    let config = dispatch_config().with_layout(ActionLayout::aloha());
    let mut dispatcher = Dispatcher::new(&config).unwrap().with_online_scale();
    let mut expected = expected(&mut dispatcher, &actions);
    let scale = dispatcher.motion();
    assert_ne!(scale, config.motion(), "the actions are enough for a scale");
    let path = program.folder.path().join("motion");
    std::fs::write(&path, file(&config, &actions)).unwrap();
    let output = run(program.command(&[]).arg(&path).arg("aloha"));
    let output = String::from_utf8(output.stdout).unwrap();
    let (lines, last) = output.trim_end().rsplit_once('\n').unwrap();
    expected.pop();
    assert_eq!(lines, expected);
    let printed: Vec<f64> = last.split(' ').map(|x| x.parse().unwrap()).collect();
    assert_eq!(printed, [scale.mu_max, scale.nu_max]);
}
