//! What a control step pays for its width: `cargo bench --bench dispatch`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use w4ax::dispatch::{
    ACTION_DIM, Action, DispatchConfig, Dispatcher, Kinematics, MotionScale, Thresholds,
};
use w4ax::skip::{Guide, LayerStack, Layers, SkipConfig, Skipper};
use w4ax::{Width, WidthFlag};

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

/// 16 layers without any work, which may be skipped, and an action that is there already.
struct Nothing<'a>(&'a Action);

impl LayerStack for Nothing<'_> {
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

    let longest = config()
        .with_window_macro(DispatchConfig::MAX_WINDOW)
        .with_window_micro(DispatchConfig::MAX_WINDOW);
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

    let mut skipper = Skipper::new(&SkipConfig::default(), layers).expect("a valid configuration");
    c.bench_function("skipping: a step over 16 layers that do nothing", |b| {
        b.iter(|| {
            let mut stack = Nothing(black_box(next()));
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
