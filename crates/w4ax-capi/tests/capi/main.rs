//! The C ABI: the header against the Rust side, and C programs that are linked with the libraries.

mod abi;
mod cc;
mod client;
use test_support as support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cc::{Language, Link, Program, run};
use half::bf16;
use rand::Rng;
use support::{Kind, PlainWeight, WIDTHS, bits, dispatch_config, rng};
use w4ax::checkpoint::Checkpoint;
use w4ax::dispatch::{Algorithm, Dispatcher, Reason};
use w4ax::reference;
use w4ax::{Grouping, MatRef, PackedFile, ScaleType, Width};
use w4ax_capi::status::Status;
use w4ax_capi::types;

fn source(name: &str) -> PathBuf {
    Path::new("tests/capi").join(name)
}

/// Each way to make a program: both libraries, both languages.
const BUILDS: [(Language, Link); 3] = [
    (Language::C99, Link::Static),
    (Language::C99, Link::Shared),
    (Language::Cpp, Link::Static),
];

fn scale_type_code(scale_type: ScaleType) -> u32 {
    match scale_type {
        ScaleType::F32 => types::TYPE_F32,
        ScaleType::F16 => types::TYPE_F16,
        ScaleType::Bf16 => types::TYPE_BF16,
    }
}

/// Random weights and activations of every kind with the mirror's result, as `gemm.c` reads them.
fn write_case(
    path: &Path,
    seed: u64,
    (m, n, k): (usize, usize, usize),
    grouping: Grouping,
    scale_type: ScaleType,
    width: Width,
) {
    let mut rng = rng(seed);
    let (symmetric, has_bias) = (seed.is_multiple_of(2), !seed.is_multiple_of(3));
    let plain = PlainWeight::random(&mut rng, (n, k), grouping, scale_type, symmetric);
    let (x_stride, y_stride) = (
        k + rng.random_range(0..9usize),
        n + rng.random_range(0..9usize),
    );
    let kind = Kind::ALL[seed as usize % Kind::ALL.len()];
    let x = kind.fill(&mut rng, (m - 1) * x_stride + k);
    let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-1f32..1.0)).collect();
    let bias = has_bias.then_some(bias);
    let view = MatRef::with_stride(&x, m, k, x_stride).unwrap();
    let y = reference::gemm(view, &plain.pack(), width, bias.as_deref()).unwrap();

    let header = [
        n as u32,
        k as u32,
        m as u32,
        grouping.size().unwrap_or(0) as u32,
        u32::from(symmetric),
        scale_type_code(scale_type),
        width.bits(),
        x_stride as u32,
        y_stride as u32,
        u32::from(has_bias),
    ];
    let mut file = std::fs::File::create(path).unwrap();
    for bytes in [
        bytemuck::cast_slice(&header),
        bytemuck::cast_slice(&plain.q),
        plain.scales.bytes(),
        bytemuck::cast_slice(plain.zeros.as_deref().unwrap_or(&[])),
        bytemuck::cast_slice(&x),
        bytemuck::cast_slice(bias.as_deref().unwrap_or(&[])),
        bytemuck::cast_slice(&bits(&y)),
    ] {
        file.write_all(bytes).unwrap();
    }
}

/// Case files in `folder`: 2, 4 and 8 bits, whose bits are the mirror's on every path. (BF16 is exact on the program's own
/// integers only.)
fn cases(folder: &Path) -> Vec<PathBuf> {
    let scale_types = [ScaleType::F32, ScaleType::F16, ScaleType::Bf16];
    let mut paths = Vec::new();
    for (i, width) in WIDTHS[..3].iter().enumerate() {
        for (j, grouping) in Grouping::ALL.into_iter().enumerate() {
            let shape = [(1, 100, 300), (7, 33, 129), (3, 70, 64), (17, 16, 100)][(i + j) % 4];
            let path = folder.join(format!("{width}.{grouping}"));
            let seed = (4 * i + j) as u64;
            write_case(&path, seed, shape, grouping, scale_types[j % 3], *width);
            paths.push(path);
        }
    }
    paths
}

#[test]
fn a_c_program_multiplies() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path());
    for (language, link) in BUILDS {
        let program = Program::build(&source("gemm.c"), language, link, &[]);
        run(program.command(&[]).arg(program.folder.path()).args(&cases));
    }
}

/// That the comparison can fail: one bit of an expected result is wrong.
#[test]
fn a_wrong_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case");
    write_case(
        &path,
        5,
        (3, 33, 100),
        Grouping::G32,
        ScaleType::F16,
        Width::A4,
    );
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.iter_mut().nth_back(1).unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let program = Program::build(&source("gemm.c"), Language::C99, Link::Shared, &[]);
    let output = program
        .command(&[])
        .arg(program.folder.path())
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("scalar: m 3 n 33 k 100 grouping 32 width 4: 1 values are wrong"),
        "{said}"
    );
}

/// A desc_act checkpoint that GPTQModel packed, converted, and run by a C program: the mirror's bits.
#[test]
fn a_c_program_runs_a_desc_act_checkpoint() {
    let checkpoint = Checkpoint::open("../../tests/data/checkpoints/gptq_v2_desc_act").unwrap();
    let (module, weight) = (checkpoint.quantized())
        .map(|module| (module.to_owned(), checkpoint.weight(module).unwrap()))
        .find(|(_, weight)| weight.order().is_some())
        .expect("a weight in another order");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let (m, n, k) = (5, weight.n(), weight.k());
    let mut case = Vec::new();
    let x = Kind::Normal.fill(&mut rng(3), m * k);
    let view = MatRef::new(&x, m, k).unwrap();
    let expected = reference::gemm(view, &weight, Width::A8, None).unwrap();
    for part in [
        bytemuck::cast_slice(&[m as u32, n as u32, k as u32, 8]),
        bytemuck::cast_slice(&bits(&x)),
        bytemuck::cast_slice(&bits(&expected)),
    ] {
        case.extend_from_slice(part);
    }
    let packed = PackedFile {
        weights: [(module.clone(), weight)].into(),
    };
    packed.save(&file).unwrap();
    let path = folder.path().join("case");
    for (language, link) in BUILDS {
        let program = Program::build(&source("order.c"), language, link, &[]);
        let run_it = |case: &[u8]| {
            std::fs::write(&path, case).unwrap();
            let mut command = program.command(&[]);
            command.arg(program.folder.path()).arg(&file).arg(&module);
            command.arg(&path).output().unwrap()
        };
        let output = run_it(&case);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        // That the comparison can fail.
        let mut wrong = case.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let output = run_it(&wrong);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("width 8: 1 values are wrong"), "{said}");
    }
}

#[test]
fn misuse_is_a_status() {
    for (language, link) in BUILDS {
        let program = Program::build(&source("misuse.c"), language, link, &[]);
        let output = run(program.command(&[]).arg(program.folder.path()));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "", "no panic on the way to a status");
    }
}

/// What the library answers here of device 0, and of the kernels' table: statuses as `gpu.c` takes them, and a part of the text.
#[cfg(not(feature = "cuda"))]
fn gpus() -> (Status, Status, String) {
    let text = "built without the feature `cuda`: build again with it";
    (Status::NoBackend, Status::NoBackend, text.into())
}

#[cfg(feature = "cuda")]
fn gpus() -> (Status, Status, String) {
    use w4ax::Unavailable;
    use w4ax::cuda::{Gpu, build_info, device_count};
    let table = match build_info() {
        Ok(_) => Status::Ok,
        Err(_) => Status::NoBackend,
    };
    let problem = match device_count() {
        // Only where the device itself will not do is its status not that of the count.
        Ok(_) => {
            Gpu::new(0).unwrap_or_else(|e| panic!("there is a GPU, and it cannot be had: {e}"));
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

/// In each build: without feature `cuda`, without kernels, with kernels and no driver or device, with a GPU.
#[test]
fn what_is_wrong_about_gpus_is_a_status() {
    let (device, table, text) = gpus();
    for (language, link) in BUILDS {
        let program = Program::build(&source("gpu.c"), language, link, &[]);
        let output = run(program
            .command(&[])
            .args([device, table].map(|status| (status as u32).to_string()))
            .arg(&text));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "", "no panic on the way to a status");
        println!("{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Runs `program` under a checker that must be silent, then with a forgotten handle, which it must find.
fn finds_leaks(program: &Program, under: &[&str]) {
    let command = || {
        let mut command = program.command(under);
        command.arg(program.folder.path());
        command
    };
    run(&mut command());
    let leaking = command().arg("leak").output().unwrap();
    assert!(
        !leaking.status.success(),
        "{under:?}: the leak is not found"
    );
    let said = String::from_utf8_lossy(&leaking.stderr);
    assert!(said.contains("lost") || said.contains("leak"), "{said}");
}

#[test]
fn nothing_leaks_under_the_address_sanitizer() {
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let build = |name| Program::try_build(&source(name), Language::C99, Link::Static, &flags);
    match build("misuse.c") {
        Ok(program) => {
            finds_leaks(&program, &[]);
            let program = build("gemm.c").unwrap();
            let folder = tempfile::tempdir().unwrap();
            run(program
                .command(&[])
                .arg(program.folder.path())
                .args(cases(folder.path())));
        }
        Err(said) => {
            assert!(said.contains("asan") || said.contains("sanitize"), "{said}");
            eprintln!("left out: the compiler has no address sanitizer");
        }
    }
}

#[test]
fn nothing_leaks_and_no_wrong_access_under_valgrind() {
    if !Command::new("valgrind")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
    {
        return eprintln!("left out: there is no valgrind");
    }
    let under = [
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ];
    // The library's own reads and writes count here: the program's buffers are exactly as long as they must be.
    let program = Program::build(&source("misuse.c"), Language::C99, Link::Shared, &[]);
    finds_leaks(&program, &under);
    let program = Program::build(&source("gemm.c"), Language::C99, Link::Shared, &[]);
    let folder = tempfile::tempdir().unwrap();
    run(program
        .command(&under)
        .arg(program.folder.path())
        .args(cases(folder.path())));
}

fn reason(reason: Reason) -> (u32, u32, u32) {
    match reason {
        Reason::Start => (types::REASON_START, 0, 0),
        Reason::Fault => (types::REASON_FAULT, 0, 0),
        Reason::Steady => (types::REASON_STEADY, 0, 0),
        Reason::Rose => (types::REASON_ROSE, 0, 0),
        Reason::Held { count, pending } => (types::REASON_HELD, count, pending.bits()),
        Reason::SteppedDown => (types::REASON_STEPPED_DOWN, 0, 0),
        other => panic!("reason {other:?} without a C constant"),
    }
}

/// A random motion with a bad action in it: the C program's decisions are those of the Rust side.
#[test]
fn a_c_program_dispatches() {
    let program = Program::build(&source("dispatch.c"), Language::C99, Link::Shared, &[]);
    let cpp = Program::build(&source("dispatch.c"), Language::Cpp, Link::Static, &[]);
    let mut rng = rng(11);
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        let config = dispatch_config().with_algorithm(algorithm);
        let mut speed = 0.0;
        let actions: Vec<[f64; 7]> = (0..600)
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
            .collect();
        let mut file = Vec::new();
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
            match algorithm {
                Algorithm::SaturatingCounter => types::SATURATING_COUNTER,
                Algorithm::Window => types::WINDOW,
                other => panic!("algorithm {other:?} without a C constant"),
            },
            actions.len() as u32,
        ];
        file.extend_from_slice(bytemuck::cast_slice(&numbers));
        file.extend_from_slice(bytemuck::cast_slice(&counts));
        file.extend_from_slice(bytemuck::cast_slice(&actions));

        let mut dispatcher = Dispatcher::new(&config).unwrap();
        let mut expected = String::new();
        for action in &actions {
            let d = dispatcher.decide();
            let (code, count, pending) = reason(d.reason);
            let observed = if dispatcher.observe(action).is_ok() {
                0
            } else {
                8
            };
            expected += &format!(
                "{:016x} {} {} {code} {count} {pending} {observed}\n",
                d.sensitivity.to_bits(),
                d.target.bits(),
                d.active.bits()
            );
        }
        for code in 0..=5 {
            let told = expected
                .lines()
                .any(|l| l.split(' ').nth(3) == Some(&code.to_string()));
            assert!(told, "the motion never leads to reason {code}");
        }
        for program in [&program, &cpp] {
            let path = program.folder.path().join("motion");
            std::fs::write(&path, &file).unwrap();
            let output = run(program.command(&[]).arg(&path));
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}

#[test]
fn the_version_is_the_crates() {
    let header = include_str!("../../include/w4ax.h");
    for (part, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        let line = format!("#define W4AX_VERSION_{part} {value}\n");
        assert!(header.contains(&line), "{line}");
    }
}

/// bf16 has the size and alignment of the `uint16_t` that the header says.
const _: () = assert!(size_of::<bf16>() == 2 && align_of::<bf16>() == 2);
