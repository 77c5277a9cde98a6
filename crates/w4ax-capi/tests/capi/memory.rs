//! Leaks and invalid accesses, by AddressSanitizer and by valgrind.

use test_support::leave_out;

use crate::gemm::write_cases;
use crate::program::{Language, Link, Program, has_tool, run, source};

/// Runs `program` under a checker, which must find nothing, and then with a leaked handle, which it
/// must find.
fn check_leaks(program: &Program, under: &[&str]) {
    let command = || {
        let mut command = program.command(under);
        command.arg(program.folder.path());
        command
    };
    run(&mut command());
    let leaking = command().arg("leak").output().unwrap();
    let errors = String::from_utf8_lossy(&leaking.stderr);
    let found = errors.contains("lost") || errors.contains("leak");
    assert!(!leaking.status.success() && found, "{under:?}: {errors}");
}

fn check_gemms(program: &Program, under: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    run(program
        .command(under)
        .arg(program.folder.path())
        .args(write_cases(folder.path())));
}

#[test]
fn address_sanitizer_finds_no_errors() {
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let build = |name| Program::try_build(&source(name), Language::C99, Link::Static, &flags);
    match build("misuse.c") {
        Ok(program) => check_leaks(&program, &[]),
        Err(errors) => return leave_out("the C ABI under AddressSanitizer", &errors),
    }
    let dispatching = build("misuse_dispatch.c").unwrap();
    run(dispatching.command(&[]).arg(dispatching.folder.path()));
    check_gemms(&build("gemm.c").unwrap(), &[]);
}

#[test]
fn valgrind_finds_no_errors() {
    if !has_tool("valgrind", "the C ABI under valgrind") {
        return;
    }
    let under = [
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ];
    // Valgrind checks the library itself: the program's buffers are exactly as long as required.
    for (name, check) in [
        ("misuse.c", check_leaks as fn(&Program, &[&str])),
        ("misuse_dispatch.c", |program, under| {
            run(program.command(under).arg(program.folder.path()));
        }),
        ("gemm.c", check_gemms),
    ] {
        let program = Program::build(&source(name), Language::C99, Link::Shared, &[]);
        check(&program, &under);
    }
}
