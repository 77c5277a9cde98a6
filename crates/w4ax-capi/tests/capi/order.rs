//! Weights with an order of k, from C and C++.

use test_support::{Kind, bits, rng};
use w4ax::checkpoint::Checkpoint;
use w4ax::{MatRef, PackedFile, Width, reference};

use crate::program::{BUILDS, Program, source};

#[test]
fn runs_a_desc_act_checkpoint() {
    let checkpoint = Checkpoint::open("../../tests/data/checkpoints/gptq_v2_desc_act").unwrap();
    let (module, weight) = (checkpoint.quantized())
        .map(|module| (module.to_owned(), checkpoint.weight(module).unwrap()))
        .find(|(_, weight)| weight.order().is_some())
        .expect("the checkpoint has a weight with an order of k");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let (m, n, k) = (5, weight.n(), weight.k());
    let x = Kind::Normal.fill(&mut rng(3), m * k);
    let view = MatRef::new(&x, m, k).unwrap();
    let expected = reference::gemm(view, &weight, Width::A8, None).unwrap();
    let case = [
        bytemuck::cast_slice(&[m as u32, n as u32, k as u32, 8]),
        bytemuck::cast_slice(&bits(&x)),
        bytemuck::cast_slice(&bits(&expected)),
    ]
    .concat();
    let mut packed = PackedFile::default();
    packed.weights.insert(module.clone(), weight);
    packed.save(&file).unwrap();
    let path = folder.path().join("case");
    for (language, link) in BUILDS {
        let program = Program::build(&source("order.c"), language, link, &[]);
        let run = |case: &[u8]| {
            std::fs::write(&path, case).unwrap();
            let mut command = program.command(&[]);
            command.arg(program.folder.path()).arg(&file).arg(&module);
            let output = command.arg(&path).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.success(), errors)
        };
        let (success, errors) = run(&case);
        assert!(success && errors.is_empty(), "{errors}");
        // The program finds a wrong bit.
        let mut wrong = case.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let (_, errors) = run(&wrong);
        assert!(errors.contains("width 8: 1 wrong values"), "{errors}");
    }
}
