//! Measures the cost of choosing a width in a control step: `cargo bench --bench dispatch`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use w4ax::dispatch::{
    ACTION_DIM, Action, DispatchConfig, Dispatcher, Kinematics, MotionScale, Thresholds,
};
use w4ax::skip::{Guide, LayerStack, Layers, SkipConfig, Skipper};
use w4ax::{Width, WidthFlag};

/// Returns the actions of an arm that swings and slows down. The dispatcher chooses all widths on
/// them.
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

/// 16 layers without work, which may be skipped, and a given action.
struct NoOpStack<'a>(&'a Action);

impl LayerStack for NoOpStack<'_> {
    type Error = w4ax::Error;

    fn layers(&self) -> usize {
        16
    }

    fn embed(&mut self) -> w4ax::Result<()> {
        Ok(())
    }

    fn run(&mut self, _layer: usize) -> w4ax::Result<()> {
        Ok(())
    }

    fn skip_probability(&mut self, _layer: usize) -> w4ax::Result<f32> {
        Ok(1.0)
    }

    fn adapt(&mut self, _from: usize, _to: usize) -> w4ax::Result<()> {
        Ok(())
    }

    fn actions(&mut self, actions: &mut [f64]) -> w4ax::Result<()> {
        actions.copy_from_slice(self.0);
        Ok(())
    }
}

fn dispatch(c: &mut Criterion) {
    let actions = actions();
    let mut cycle = actions.iter().cycle();
    let mut next = || cycle.next().expect("a cycle has no end");

    let mut dispatcher = Dispatcher::new(&config()).expect("the configuration is valid");
    c.bench_function("step: observe + decide, windows 10 and 5", |b| {
        b.iter(|| {
            dispatcher
                .observe(black_box(next()))
                .expect("the action is valid");
            dispatcher.decide()
        });
    });

    let longest = config()
        .with_window_macro(DispatchConfig::MAX_WINDOW)
        .with_window_micro(DispatchConfig::MAX_WINDOW);
    let mut dispatcher = Dispatcher::new(&longest).expect("the configuration is valid");
    c.bench_function("step: observe + decide, windows 256 and 256", |b| {
        b.iter(|| {
            dispatcher
                .observe(black_box(next()))
                .expect("the action is valid");
            dispatcher.decide()
        });
    });

    let mut dispatcher = Dispatcher::new(&config()).expect("the configuration is valid");
    let flag = WidthFlag::new();
    let mut sequence = 0_u32;
    c.bench_function("step with the flag stored", |b| {
        b.iter(|| {
            dispatcher
                .observe(black_box(next()))
                .expect("the action is valid");
            flag.store(sequence, dispatcher.decide().active);
            sequence = sequence.wrapping_add(1);
        });
    });

    let mut kinematics = Kinematics::new(&config()).expect("the configuration is valid");
    for action in &actions {
        kinematics.push(action).expect("the action is valid");
    }
    c.bench_function("sensitivity from full windows", |b| {
        b.iter(|| black_box(&kinematics).sensitivity())
    });

    let layers = Layers::new(16, &[0, 1, 7]).expect("the layers exist");
    let mut guide =
        Guide::new(&SkipConfig::default(), &layers).expect("the configuration is valid");
    c.bench_function("skipping: judge + observe, window 5, 2 gaps", |b| {
        b.iter(|| {
            let action = black_box(next());
            guide.judge(action).expect("the action is valid");
            guide.observe(action).expect("the action is valid")
        });
    });

    let mut skipper =
        Skipper::new(&SkipConfig::default(), layers).expect("the configuration is valid");
    c.bench_function("skipping: a step over 16 layers without work", |b| {
        b.iter(|| {
            let mut stack = NoOpStack(black_box(next()));
            let mut action = [0.0; ACTION_DIM];
            skipper.step(&mut stack, &mut action).is_ok()
        });
    });

    c.bench_function("flag: store", |b| {
        b.iter(|| flag.store(black_box(7), black_box(Width::A4)))
    });
    c.bench_function("flag: load", |b| {
        b.iter(|| black_box(&flag).load(black_box(7)))
    });
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
