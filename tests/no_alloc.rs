//! Neither a control step nor a GEMM allocates. The test has its own binary for a counting global
//! allocator.

use half::bf16;
use test_support::{CountingAllocator, allocations, allocations_of};
use w4ax::cpu::{Cpu, Isa, Serial};
use w4ax::dispatch::{
    ActionLayout, Algorithm, DispatchConfig, Dispatcher, MotionScale, Thresholds,
};
use w4ax::skip::{Guide, Layers, SkipConfig};
use w4ax::{
    Gemm, Grouping, KOrder, MatMut, MatRef, PackedWeight, Quantize, RmsNorm, Scales, SiluMul,
    Width, WidthFlag,
};

#[global_allocator]
static COUNTING: CountingAllocator = CountingAllocator;

const MOTION: MotionScale = MotionScale {
    mu_max: 0.9,
    nu_max: 0.2,
};
const THRESHOLDS: Thresholds = Thresholds {
    theta_24: 0.1,
    theta_48: 0.3,
    theta_fp: 0.5,
};

#[test]
fn allocator_counts() {
    let counted = allocations_of(|| drop(std::hint::black_box(Box::new(1))));
    assert!(counted > 0);
}

#[test]
fn control_step_does_not_allocate() {
    let flag = WidthFlag::new();
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        let config = DispatchConfig::new(MOTION, THRESHOLDS).with_algorithm(algorithm);
        let mut dispatcher = Dispatcher::new(&config).unwrap();
        let allocated = allocations_of(|| {
            for step in 0..1000_u32 {
                let x = f64::from(step) * 0.03;
                flag.store(step, dispatcher.decide().active);
                assert_eq!(flag.load(step), dispatcher.active());
                let action = [x.sin(), 0.1, 0.0, 0.1 * x.cos(), 0.0, 0.0, 1.0];
                dispatcher.observe(&action).unwrap();
                dispatcher.observe_chunk(&[0.1_f32; 21]).unwrap();
                if step % 100 == 99 {
                    dispatcher.reset();
                }
            }
            // NaN is found without an allocation, too.
            assert!(dispatcher.observe(&[f64::NAN; 7]).is_err());
        });
        assert_eq!(allocated, 0);
    }
}

/// Two arms, rotations that are positions, an online scale, and the skipping of layers.
#[test]
fn control_step_of_any_layout_does_not_allocate() {
    for layout in [
        "aloha",
        "xyz:absolute,6d:absolute,gripper+xyz:absolute,quaternion-xyzw:absolute,gripper",
    ] {
        let layout: ActionLayout = layout.parse().unwrap();
        let config = DispatchConfig::new(MOTION, THRESHOLDS).with_layout(layout);
        let mut dispatcher = Dispatcher::new(&config).unwrap().with_online_scale();
        let skip = SkipConfig::default().with_weights(layout);
        let mut guide = Guide::new(&skip, &Layers::new(4, &[0]).unwrap()).unwrap();
        let mut action = vec![0.0; layout.dims()];
        let allocated = allocations_of(|| {
            for step in 0..1000_u32 {
                for (i, x) in action.iter_mut().enumerate() {
                    *x = (f64::from(step) * 0.03 + i as f64).sin();
                }
                dispatcher.decide();
                dispatcher.observe(&action).unwrap();
                guide.judge(&action).unwrap();
                guide.observe(&action).unwrap();
                if step % 300 == 299 {
                    dispatcher.reset();
                }
            }
        });
        assert_eq!(allocated, 0);
        assert_ne!(dispatcher.motion(), MOTION, "the scale is online");
    }
}

/// GEMMs with one workspace: each width and scheme, with and without a bias and an order of k, M =
/// 1 and more than a chunk.
fn gemms(cpu: &Cpu) -> impl FnMut() + Send + use<> {
    let (m, n, k) = (300, 100, 200);
    let plain = vec![0.25f32; n * k];
    let weight = Quantize::new(Grouping::G64)
        .pack(MatRef::new(&plain, n, k).unwrap())
        .unwrap();
    let order = KOrder::new((0..k as u32).rev().collect()).unwrap();
    let (q, steps) = (vec![3; n * k], vec![9; n * Grouping::G64.groups(k)]);
    let (q, scales) = (MatRef::new(&q, n, k).unwrap(), Scales::F32(vec![0.5; n]));
    let two_level = PackedWeight::from_two_level(q, Grouping::G64, &steps, &scales, None).unwrap();
    let weights = [
        weight.clone(),
        weight.with_order(order.clone()).unwrap(),
        two_level.clone(),
        two_level.with_order(order).unwrap(),
    ];
    let (x, mut y) = (vec![bf16::ONE; m * k], vec![bf16::ZERO; m * n]);
    let bias = vec![1.0; n];
    let (g, mut rows) = (vec![bf16::ONE; k], vec![bf16::ZERO; m * k]);
    let mut workspace = cpu.workspace(m, k).unwrap();
    let mut activations = cpu.quantized_activations(m, k).unwrap();
    let cpu = cpu.clone();
    move || {
        for (width, weight) in Width::ALL
            .into_iter()
            .flat_map(|w| weights.each_ref().map(|v| (w, v)))
        {
            for (m, bias) in [(1, None), (m, Some(bias.as_slice()))] {
                let x = MatRef::new(&x, m, k).unwrap();
                let to = MatMut::new(&mut y, m, n).unwrap();
                let gemm = Gemm::new(x, weight, width).bias(bias);
                cpu.run(&gemm, to, &mut workspace).unwrap();
                if width == Width::Bf16 || weight.order().is_some() {
                    continue;
                }
                let (norm, silu) = (RmsNorm::new(x, &g, 1e-6), SiluMul::new(x, x));
                let to = &mut activations;
                cpu.silu_mul_quantize(&silu, width, weight, to).unwrap();
                cpu.rms_norm_quantize(&norm, width, weight, to).unwrap();
                let to = MatMut::new(&mut y, m, n).unwrap();
                cpu.run_quantized(&activations, weight, bias, to, &mut workspace)
                    .unwrap();
                let to = MatMut::new(&mut rows, m, k).unwrap();
                cpu.rms_norm(&norm, to).unwrap();
                let to = MatMut::new(&mut rows, m, k).unwrap();
                cpu.silu_mul(&silu, to).unwrap();
            }
        }
    }
}

#[test]
fn gemm_does_not_allocate() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let cpu = Cpu::with_isa(isa).unwrap().with_pool(Serial);
        assert_eq!(allocations_of(gemms(&cpu)), 0, "{isa:?}");
    }
}

/// In a GEMM that is called from inside of its pool, no worker allocates.
#[test]
fn gemm_in_a_pool_does_not_allocate() {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let cpu = pool.install(|| Cpu::new().unwrap());
    let mut gemms = pool.install(|| gemms(&cpu));
    let allocations_of_workers =
        || -> usize { pool.broadcast(|_| allocations()).into_iter().sum() };
    pool.install(&mut gemms);
    // The allocations that the query itself makes.
    let per_query = (0..20)
        .map(|_| allocations_of_workers())
        .collect::<Vec<_>>();
    let per_query = per_query.windows(2).map(|w| w[1] - w[0]).max().unwrap();
    let before = allocations_of_workers();
    pool.install(|| (0..200).for_each(|_| gemms()));
    let allocated = allocations_of_workers() - before;
    assert!(
        allocated <= per_query,
        "{allocated} allocations, {per_query} of them by the query"
    );
}
