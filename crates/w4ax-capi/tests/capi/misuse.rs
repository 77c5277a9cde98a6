//! Wrong arguments: each is a status.

use w4ax_capi::status::Status;

use crate::program::{BUILDS, Program, run_silently, source};

#[test]
fn misuse_returns_statuses() {
    for (language, link) in BUILDS {
        for name in ["misuse.c", "misuse_dispatch.c", "misuse_consistency.c"] {
            let program = Program::build(&source(name), language, link, &[]);
            run_silently(program.command(&[]).arg(program.folder.path()));
        }
    }
}

#[test]
fn two_level_weights_are_exact() {
    for (language, link) in BUILDS {
        let program = Program::build(&source("two_level.c"), language, link, &[]);
        run_silently(&mut program.command(&[]));
    }
}

/// The status of opening device 0 on this machine, the status of a query that needs the kernels but
/// no device, and a part of the text of the former.
#[cfg(not(feature = "cuda"))]
fn gpu_statuses() -> (Status, Status, String) {
    let text = "built without the feature `cuda`: build it with";
    (Status::NoBackend, Status::NoBackend, text.into())
}

#[cfg(feature = "cuda")]
fn gpu_statuses() -> (Status, Status, String) {
    use w4ax::Unavailable;
    use w4ax::cuda::{Gpu, build_info, device_count};
    let table = match build_info() {
        Ok(_) => Status::Ok,
        Err(_) => Status::NoBackend,
    };
    let problem = match device_count() {
        Ok(_) => {
            Gpu::new(0).unwrap_or_else(|e| panic!("device 0 exists but cannot be opened: {e}"));
            return (Status::Ok, table, String::new());
        }
        Err(problem) => problem,
    };
    let device = match &problem {
        Unavailable::NotBuilt { .. } => Status::NoBackend,
        Unavailable::NoDriver => Status::NoDriver,
        Unavailable::NoDevice { .. } => Status::NoDevice,
        Unavailable::DriverTooOld { .. } => Status::DriverTooOld,
        other => panic!("{other}"),
    };
    assert_eq!(table == Status::NoBackend, device == Status::NoBackend);
    (device, table, problem.to_string())
}

/// Covers whichever of these this build and machine are: without feature `cuda`, without kernels,
/// without a driver or device, with a GPU.
#[test]
fn gpu_misuse_returns_statuses() {
    let (device, table, text) = gpu_statuses();
    for (language, link) in BUILDS {
        for (name, status) in [("gpu.c", device), ("gpu_plan.c", table)] {
            let program = Program::build(&source(name), language, link, &[]);
            let status = (status as u32).to_string();
            let output = run_silently(program.command(&[]).arg(status).arg(&text));
            println!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
