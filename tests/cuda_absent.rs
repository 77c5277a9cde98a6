//! The CUDA backend without a GPU, a driver or kernels returns typed errors and never panics.
//!
//! On a machine with a GPU the same calls succeed, and the tests print that.

use std::process::Command;
use w4ax::cuda::{ConditionalNodes, build_info, device_count, driver_version, kernel_names};
use w4ax::cuda::{
    DeviceProps, Family, GemmOptions, Gpu, OperandLayout, Problem, QuantizedActivations, Workspace,
};
use w4ax::{Error, Grouping, Unavailable, Width};

/// Opens device 0, or checks that the error is the one of `device_count`.
fn open() {
    match (device_count(), Gpu::new(0)) {
        (Ok(count), Ok(gpu)) => println!("{count} devices; the first is {}", gpu.name()),
        (Ok(count), Err(error)) => println!("{count} devices, none to use: {error}"),
        (Err(expected), Err(Error::Unavailable { requested, reason })) => {
            assert_eq!(requested, "CUDA device 0");
            assert_eq!(reason, expected);
            println!("{reason}");
        }
        (count, gpu) => panic!("{count:?} devices, yet {gpu:?}"),
    }
}

#[test]
fn reports_missing_device() {
    open();
    // Every ordinal, several times.
    for ordinal in [0, 1, 63, 64, 1000, usize::MAX] {
        let gpu = Gpu::new(ordinal);
        let exists = device_count().is_ok_and(|count| ordinal < count);
        if !exists {
            assert!(
                matches!(gpu, Err(Error::Unavailable { .. })),
                "{ordinal}: {gpu:?}"
            );
        }
    }
}

#[test]
fn opens_from_several_threads() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(open);
        }
    });
}

/// In a process with all devices hidden, every machine returns an error.
#[test]
fn reports_hidden_devices() {
    let test = std::env::current_exe().expect("the path of this test");
    for visible in ["", "-1", "nonsense"] {
        let output = Command::new(&test)
            .args(["hidden_child", "--exact", "--ignored", "--nocapture"])
            .env("CUDA_VISIBLE_DEVICES", visible)
            .output()
            .expect("the test starts as a child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "CUDA_VISIBLE_DEVICES={visible}: {said}"
        );
        assert!(said.contains("CUDA device 0: "), "{said}");
    }
}

#[test]
#[ignore = "run by reports_hidden_devices, with every device hidden"]
fn hidden_child() {
    match Gpu::new(0) {
        Err(error @ Error::Unavailable { .. }) => println!("{error}"),
        other => panic!("a device, although all are hidden: {other:?}"),
    }
}

/// Without a driver there are no conditional nodes, and the query does not panic.
#[test]
fn conditional_nodes_need_driver() {
    let nodes = ConditionalNodes::available();
    if device_count().is_err() && driver_version().is_none() {
        assert_eq!(nodes, None);
    }
    println!("{nodes:?}");
}

/// Plans and sizes need no device. Without kernels they return the reason.
#[test]
fn plans_without_device() {
    let problem = |m, width| Problem::new((m, 4096, 11008), width, Grouping::G128);
    let Ok(info) = build_info() else {
        let Err(Error::Unavailable { reason, .. }) = problem(1, Width::A4).plan() else {
            panic!("a plan without kernels");
        };
        assert!(matches!(reason, Unavailable::NotBuilt { .. }), "{reason}");
        let text = reason.to_string();
        assert!(text.starts_with("built without kernels: "), "{text}");
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
            let plan = problem(m, width).plan().expect("a valid shape");
            assert!(kernel_names().contains(&plan.kernel), "{plan}");
            assert_eq!(plan.launches > 1, plan.workspace_bytes > 0, "{plan}");
            assert!(plan.workspace_bytes <= Workspace::bytes_for(m, 11008).expect("a size"));
            assert!(!plan.slow_x && !plan.slow_y, "{plan}");
            // The blocks cover all outputs.
            assert!(
                plan.blocks * plan.tile_n.max(1) * plan.tile_m.max(1) >= m * 4096,
                "{plan}"
            );
        }
    }
    // The bytes that `workspace_bytes` returns are enough for every device, every N and up to that
    // many tokens.
    for wgmma in [false, true] {
        let props = DeviceProps {
            capability: (9, 0),
            wgmma,
            multiprocessors: 132,
        };
        let k = 11008;
        for (width, most) in [(Width::A4, 20), (Width::A8, 300), (Width::A8, 2)] {
            let enough = problem(most, width).workspace_bytes().expect("a size");
            assert!(enough <= Workspace::bytes_for(most, k).expect("a size"));
            for (m, n) in (1..=most).flat_map(|m| [(m, 100), (m, 4096), (m, 22016)]) {
                let plan = problem(m, width)
                    .with_n(n)
                    .plan_for(&props)
                    .expect("a valid shape");
                assert!(plan.workspace_bytes <= enough, "{m} x {n}: {plan}");
            }
        }
    }
    // With an order of k, the gathered activations come first in the workspace.
    for width in Width::ALL {
        for m in [1, 9, 290] {
            let alone = problem(m, width).plan().expect("a valid shape");
            let plan = (problem(m, width).with_act_order(true).plan()).expect("a valid shape");
            assert!(
                plan.gathers && plan.launches == alone.launches + 1,
                "{plan}"
            );
            assert!(
                plan.workspace_bytes >= alone.workspace_bytes + 2 * m * 11008,
                "{plan}"
            );
            assert!(plan.workspace_bytes <= Workspace::bytes_for(m, 11008).expect("a size"));
        }
    }
    // Routed by a latch: one kernel for all widths, and a workspace for the widest.
    for (m, family) in [
        (1, None),
        (2, None),
        (9, None),
        (1, Some(Family::Prefill)),
        (300, None),
    ] {
        let options = GemmOptions::default().with_family(family);
        let routed = Problem::new((m, 4096, 11008), None, Grouping::G128).with_options(options);
        let plan = routed.plan().expect("a routed kernel");
        assert!(kernel_names().contains(&plan.kernel), "{plan}");
        assert!(plan.kernel.contains("_routed_"), "{plan}");
        assert_eq!(plan.launches > 1, plan.workspace_bytes > 0, "{plan}");
        assert!(plan.workspace_bytes <= Workspace::bytes_for(m, 11008).expect("a size"));
        let widest = problem(m, Width::A8).with_options(options);
        let widest = widest.plan().expect("a valid shape");
        assert!(plan.workspace_bytes >= widest.workspace_bytes, "{plan}");
        assert!(
            plan.blocks * plan.tile_n * plan.tile_m >= m * 4096,
            "{plan}"
        );
    }
    let fused = Problem::new((9, 4096, 11008), None, Grouping::G128)
        .with_options(GemmOptions::default().with_fused(true));
    assert!(matches!(fused.plan(), Err(Error::Range { .. })));
    let none = problem(1, Width::A4).with_options(GemmOptions::default().with_tile(99));
    assert!(matches!(
        none.plan(),
        Err(Error::Range { what: "tile", .. })
    ));
    let decode = GemmOptions::default().with_family(Family::Decode);
    let many = problem(17, Width::A4).with_options(decode);
    assert!(matches!(many.plan(), Err(Error::Range { .. })));
    assert!(matches!(
        problem(0, Width::A4).plan(),
        Err(Error::Range { what: "M", .. })
    ));
    let long = Problem::new((1, 4096, 65_537), Width::A4, Grouping::PerChannel);
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
