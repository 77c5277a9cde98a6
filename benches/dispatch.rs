//! What a control step pays for its width: `cargo bench --bench dispatch`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use w4ax::dispatch::{
    Action, DispatchConfig, Dispatcher, Kinematics, MAX_WINDOW, MotionScale, Thresholds,
};
use w4ax::skip::{Guide, Layers, SkipConfig};
use w4ax::{Precision, WidthFlag};

/// An arm that swings and slows down, so that all widths come up.
fn actions() -> Vec<Action> {
    let at = |t: usize| {
        let phase = t as f64 * 0.05;
        let speed = 0.9 * phase.sin().abs();
        [
            speed,
            0.3 * speed,
            -0.2,
            0.1 * phase.cos(),
            0.05 * (7.0 * phase).sin(),
            0.0,
            1.0,
        ]
    };
    (0..1024).map(at).collect()
}

fn config() -> DispatchConfig {
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let thresholds = Thresholds {
        theta_24: 0.1,
        theta_48: 0.3,
        theta_fp: 0.5,
    };
    DispatchConfig::new(motion, thresholds)
}

fn dispatch(c: &mut Criterion) {
    let actions = actions();
    let mut cycle = actions.iter().cycle();
    let mut next = || cycle.next().expect("a cycle does not end");

    let mut dispatcher = Dispatcher::new(&config()).expect("a valid configuration");
    c.bench_function("step: observe + decide, windows 10 and 5", |b| {
        b.iter(|| {
            dispatcher
                .observe(black_box(next()))
                .expect("a good action");
            dispatcher.decide()
        });
    });

    let longest = DispatchConfig {
        window_macro: MAX_WINDOW,
        window_micro: MAX_WINDOW,
        ..config()
    };
    let mut dispatcher = Dispatcher::new(&longest).expect("a valid configuration");
    c.bench_function("step: observe + decide, windows 256 and 256", |b| {
        b.iter(|| {
            dispatcher
                .observe(black_box(next()))
                .expect("a good action");
            dispatcher.decide()
        });
    });

    let mut dispatcher = Dispatcher::new(&config()).expect("a valid configuration");
    let flag = WidthFlag::new();
    let mut sequence = 0_u32;
    c.bench_function("step with the flag stored", |b| {
        b.iter(|| {
            dispatcher
                .observe(black_box(next()))
                .expect("a good action");
            flag.store(sequence, dispatcher.decide().active);
            sequence = sequence.wrapping_add(1);
        });
    });

    let mut kinematics = Kinematics::new(&config()).expect("a valid configuration");
    for action in &actions {
        kinematics.push(action).expect("a good action");
    }
    c.bench_function("S from full windows", |b| {
        b.iter(|| black_box(&kinematics).sensitivity())
    });

    let layers = Layers::new(16, &[0, 1, 7]).expect("layers of the stack");
    let mut guide = Guide::new(&SkipConfig::default(), &layers).expect("a valid configuration");
    c.bench_function("skipping: judge + observe, window 5, 2 gaps", |b| {
        b.iter(|| {
            let action = black_box(next());
            guide.judge(action).expect("a good action");
            guide.observe(action).expect("a good action")
        });
    });

    c.bench_function("flag: store", |b| {
        b.iter(|| flag.store(black_box(7), black_box(Precision::A4)))
    });
    c.bench_function("flag: load", |b| {
        b.iter(|| black_box(&flag).load(black_box(7)))
    });
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
