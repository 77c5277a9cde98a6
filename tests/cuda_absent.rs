//! The CUDA backend where there is no GPU, no driver, or no kernels: typed errors, never a panic.
//!
//! On a machine with a GPU the same calls succeed, and the tests say so instead of failing.

use std::process::Command;
use w4ax::cuda::{ConditionalNodes, build_info, device_count, driver_version, kernel_names};
use w4ax::cuda::{
    DeviceProps, Family, GemmOptions, Gpu, OperandLayout, Problem, QuantizedActivations,
    Unavailable, Workspace,
};
use w4ax::{Error, Grouping, Width};

/// Device 0, or an error of one of the known kinds.
fn open() {
    match (device_count(), Gpu::new(0)) {
        (Ok(count), Ok(gpu)) => println!("{count} devices; the first is {}", gpu.name()),
        (Ok(count), Err(error)) => println!("{count} devices, none to use: {error}"),
        (Err(problem), Err(Error::Unavailable { requested, reason })) => {
            assert_eq!(requested, "CUDA device 0");
            assert_eq!(reason, problem);
            println!("{problem}");
        }
        (count, gpu) => panic!("{count:?} devices, yet {gpu:?}"),
    }
}

#[test]
fn a_missing_device_is_an_error() {
    open();
    // Any number, many times.
    for ordinal in [0, 1, 63, 64, 1000, usize::MAX] {
        let gpu = Gpu::new(ordinal);
        let there = device_count().is_ok_and(|count| ordinal < count);
        if !there {
            assert!(
                matches!(gpu, Err(Error::Unavailable { .. })),
                "{ordinal}: {gpu:?}"
            );
        }
    }
}

#[test]
fn from_several_threads() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(open);
        }
    });
}

/// In a process of its own with every device hidden: an error on any machine.
#[test]
fn hidden_devices_are_an_error() {
    let test = std::env::current_exe().expect("this test's program");
    for visible in ["", "-1", "nonsense"] {
        let output = Command::new(&test)
            .args(["hidden_child", "--exact", "--ignored", "--nocapture"])
            .env("CUDA_VISIBLE_DEVICES", visible)
            .output()
            .expect("it runs again");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "CUDA_VISIBLE_DEVICES={visible}: {said}"
        );
        assert!(said.contains("CUDA device 0: "), "{said}");
    }
}

#[test]
#[ignore = "run by hidden_devices_are_an_error, with every device hidden"]
fn hidden_child() {
    match Gpu::new(0) {
        Err(error @ Error::Unavailable { .. }) => println!("{error}"),
        other => panic!("a device although all are hidden: {other:?}"),
    }
}

/// Without a driver nothing can be routed by a graph; asking for that is no panic either.
#[test]
fn conditional_nodes_need_a_driver() {
    let nodes = ConditionalNodes::available();
    if device_count().is_err() && driver_version().is_none() {
        assert_eq!(nodes, None);
    }
    println!("{nodes:?}");
}

/// What needs no device: plans and sizes, or the word that there are no kernels.
#[test]
fn plans_need_no_device() {
    let problem = |m, width| Problem {
        m,
        n: 4096,
        k: 11008,
        width,
        latched: false,
        grouping: Grouping::G128,
        packed: false,
        options: GemmOptions::default(),
    };
    let Ok(info) = build_info() else {
        let Err(Error::Unavailable { reason, .. }) = problem(1, Width::A4).plan() else {
            panic!("a plan without kernels");
        };
        assert!(matches!(reason, Unavailable::NotBuilt { .. }), "{reason}");
        assert!(matches!(device_count(), Err(Unavailable::NotBuilt { .. })));
        assert!(Workspace::bytes_for(1, 64).is_err());
        assert!(
            QuantizedActivations::bytes_for(
                1,
                64,
                Width::A4,
                Grouping::G32,
                OperandLayout::Fragments
            )
            .is_err()
        );
        assert!(kernel_names().is_empty());
        assert_eq!(Family::Decode.tiles(), 0);
        println!("{reason}");
        return;
    };
    println!("{} kernels for {}", kernel_names().len(), info.archs);
    for width in Width::ALL {
        for m in [1, 2, 3, 16, 17, 290, 4096] {
            let plan = problem(m, width).plan().expect("a real shape");
            assert!(kernel_names().contains(&plan.kernel), "{plan}");
            assert_eq!(plan.launches > 1, plan.workspace_bytes > 0, "{plan}");
            assert!(plan.workspace_bytes <= Workspace::bytes_for(m, 11008).expect("a size"));
            assert!(!plan.slow_x && !plan.slow_y, "{plan}");
            // One block too few would leave outputs unwritten.
            assert!(
                plan.blocks * plan.tile_n.max(1) * plan.tile_m.max(1) >= m * 4096,
                "{plan}"
            );
        }
    }
    // Whatever a table picks for a device, N and up to so many tokens: what was asked for beforehand is enough.
    for wgmma in [false, true] {
        let chip = DeviceProps {
            capability: (9, 0),
            wgmma,
            multiprocessors: 132,
        };
        let k = 11008;
        for (width, most) in [(Width::A4, 20), (Width::A8, 300), (Width::A8, 2)] {
            let enough = problem(most, width).workspace_bytes().expect("a size");
            assert!(enough <= Workspace::bytes_for(most, k).expect("a size"));
            for (m, n) in (1..=most).flat_map(|m| [(m, 100), (m, 4096), (m, 22016)]) {
                let plan = Problem {
                    n,
                    ..problem(m, width)
                }
                .plan_for(&chip)
                .expect("a real shape");
                assert!(plan.workspace_bytes <= enough, "{m} x {n}: {plan}");
            }
        }
    }
    // Routed by a latch: one kernel for all widths, and room for the widest.
    for (m, family) in [
        (1, None),
        (2, None),
        (9, None),
        (1, Some(Family::Prefill)),
        (300, None),
    ] {
        let mut routed = problem(m, Width::A2);
        (routed.latched, routed.options.family) = (true, family);
        let plan = routed.plan().expect("a routed kernel");
        assert!(kernel_names().contains(&plan.kernel), "{plan}");
        assert!(plan.kernel.contains("_routed_"), "{plan}");
        assert_eq!(plan.launches > 1, plan.workspace_bytes > 0, "{plan}");
        assert!(plan.workspace_bytes <= Workspace::bytes_for(m, 11008).expect("a size"));
        let mut widest = problem(m, Width::A8);
        widest.options.family = family;
        let widest = widest.plan().expect("a real shape");
        assert!(plan.workspace_bytes >= widest.workspace_bytes, "{plan}");
        assert!(
            plan.blocks * plan.tile_n * plan.tile_m >= m * 4096,
            "{plan}"
        );
    }
    let mut fused = problem(9, Width::A4);
    (fused.latched, fused.options.fused) = (true, Some(true));
    assert!(matches!(fused.plan(), Err(Error::Range { .. })));
    let mut none = problem(1, Width::A4);
    none.options.tile = Some(99);
    assert!(matches!(
        none.plan(),
        Err(Error::Range { what: "tile", .. })
    ));
    let mut many = problem(17, Width::A4);
    many.options.family = Some(Family::Decode);
    assert!(matches!(many.plan(), Err(Error::Range { .. })));
    assert!(matches!(
        problem(0, Width::A4).plan(),
        Err(Error::Range { what: "M", .. })
    ));
    let mut long = problem(1, Width::A4);
    (long.grouping, long.k) = (Grouping::PerChannel, 65_537);
    assert!(long.plan().is_err(), "sums over 65,536 k may overflow");
    let packed = QuantizedActivations::bytes_for(
        5,
        100,
        Width::Bf16,
        Grouping::G32,
        OperandLayout::CoreMatrices,
    );
    assert!(matches!(packed, Err(Error::Range { .. })));
}
