//! Invalid shapes, short and misaligned buffers and unknown instruction sets are typed errors, and
//! nothing is written.

use test_support as support;

use half::bf16;
use support::{PlainWeight, WIDTHS, rng};
use w4ax::cpu::{Cpu, Isa, Workspace};
use w4ax::reference::{self, QuantizedMatrix, matmul_f64};
use w4ax::{Error, Gemm, Grouping, MatMut, MatRef, PackedWeight, ScaleType, Scheme, Width};

fn weight() -> PackedWeight {
    weight_of(Scheme::Grouped)
}

fn weight_of(scheme: Scheme) -> PackedWeight {
    let (grouping, scales) = (Grouping::G32, ScaleType::Bf16);
    PlainWeight::random_of(scheme, &mut rng(1), (20, 70), grouping, scales, true).pack()
}

#[test]
fn views_check_buffers() {
    let data = [bf16::ZERO; 100];
    let text = |e: Error| e.to_string();
    let short = MatRef::new(&data, 11, 10).unwrap_err();
    assert!(
        matches!(
            short,
            Error::Buffer {
                needed: 110,
                got: 100,
                ..
            }
        ),
        "{short}"
    );
    // The last row needs no whole stride.
    assert!(MatRef::with_stride(&data, 9, 10, 11).is_ok());
    assert!(MatRef::with_stride(&data, 9, 4, 12).is_ok());
    assert!(MatRef::with_stride(&data, 9, 5, 12).is_err());
    let narrow = text(MatRef::with_stride(&data, 2, 10, 9).unwrap_err());
    assert!(
        narrow.contains("row stride 9: expected at least 10"),
        "{narrow}"
    );
    let huge = text(MatRef::with_stride(&data, 1 << 40, 1, 1 << 40).unwrap_err());
    assert!(huge.contains("address space"), "{huge}");
    assert!(MatRef::new(&data, 0, 1000).is_ok(), "no rows need no data");

    #[repr(align(8))]
    struct Aligned([u8; 200]);
    let mut bytes = Aligned([0; 200]);
    assert_eq!(
        MatRef::<bf16>::from_bytes(&bytes.0, 10, 10)
            .unwrap()
            .row(9)
            .len(),
        10
    );
    for wrong in [&bytes.0[1..199], &bytes.0[..199]] {
        let error = text(MatRef::<bf16>::from_bytes(wrong, 9, 10).unwrap_err());
        assert!(error.contains("elements of 2 bytes"), "{error}");
    }
    let odd = MatMut::<f32>::from_bytes(&mut bytes.0[2..198], 1, 1).unwrap_err();
    assert!(
        matches!(
            odd,
            Error::Alignment {
                align: 4,
                len: 196,
                ..
            }
        ),
        "{odd}"
    );
    assert!(MatMut::<bf16>::from_bytes(&mut bytes.0, 11, 10).is_err());
}

/// Runs GEMMs with invalid shapes, of both schemes, and returns their error. y must not change.
fn call(
    (xm, xk): (usize, usize),
    (ym, yn): (usize, usize),
    bias: Option<usize>,
    workspace: impl Fn(&Cpu) -> Workspace,
) -> String {
    let weights = Scheme::ALL.map(weight_of);
    let x = vec![bf16::ONE; xm * xk];
    let marker = bf16::from_bits(0x1234);
    let mut text = None;
    for cpu in Isa::ALL
        .into_iter()
        .filter_map(|isa| Cpu::with_isa(isa).ok())
    {
        for (width, w) in WIDTHS
            .into_iter()
            .flat_map(|v| weights.each_ref().map(|w| (v, w)))
        {
            let mut y = vec![marker; ym * yn];
            let bias = bias.map(|n| vec![0f32; n]);
            let gemm = Gemm::new(MatRef::new(&x, xm, xk).unwrap(), w, width).bias(bias.as_deref());
            let y_view = MatMut::new(&mut y, ym, yn).unwrap();
            let error = cpu
                .run(&gemm, y_view, &mut workspace(&cpu))
                .unwrap_err()
                .to_string();
            assert!(y.iter().all(|v| *v == marker));
            assert_eq!(text.get_or_insert(error.clone()), &error);
        }
    }
    text.unwrap()
}

#[test]
fn gemm_checks_shapes() {
    let enough = |cpu: &Cpu| cpu.workspace(10, 100).unwrap();
    assert_eq!(
        call((3, 71), (3, 20), None, enough),
        "x has shape [3, 71]: expected [3, 70]"
    );
    assert_eq!(
        call((3, 70), (2, 20), None, enough),
        "y has shape [2, 20]: expected [3, 20]"
    );
    assert_eq!(
        call((3, 70), (3, 21), None, enough),
        "y has shape [3, 21]: expected [3, 20]"
    );
    assert_eq!(
        call((3, 70), (3, 20), Some(19), enough),
        "bias has shape [19]: expected [20]"
    );
    let few = call((3, 70), (3, 20), None, |cpu| cpu.workspace(2, 100).unwrap());
    assert_eq!(
        few,
        "buffer of 2 elements for workspace tokens: expected at least 3"
    );
    let narrow = call((3, 70), (3, 20), None, |cpu| cpu.workspace(3, 69).unwrap());
    assert_eq!(
        narrow,
        "buffer of 69 elements for workspace inputs: expected at least 70"
    );
}

#[test]
fn references_check_shapes() {
    let (w, data) = (weight(), [bf16::ONE; 71]);
    let x = MatRef::new(&data, 1, 71).unwrap();
    assert!(matches!(
        matmul_f64(x, &w),
        Err(Error::Shape { what: "x", .. })
    ));
    assert!(matches!(
        reference::gemm(x, &w, Width::A4, None),
        Err(Error::Shape { what: "x", .. })
    ));
    let x = MatRef::new(&data, 1, 70).unwrap();
    let bias = Some([0f32; 21].as_slice());
    assert!(matches!(
        reference::gemm(x, &w, Width::A4, bias),
        Err(Error::Shape { what: "bias", .. })
    ));
    let bf16 = QuantizedMatrix::new(x, Width::Bf16, Grouping::G32);
    assert!(matches!(bf16, Err(Error::Range { .. })));
}

/// A workspace with the scratch memory of fewer threads limits the number of pieces.
#[test]
fn workspace_of_fewer_threads_works() {
    let w =
        PlainWeight::random(&mut rng(2), (300, 70), Grouping::G32, ScaleType::Bf16, true).pack();
    let x = vec![bf16::ONE; 70];
    let x = MatRef::new(&x, 1, 70).unwrap();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        .build()
        .unwrap();
    let many = Cpu::new().unwrap().with_pool(pool);
    let mut workspace = Cpu::new()
        .unwrap()
        .with_pool(w4ax::cpu::Serial)
        .workspace(1, 70)
        .unwrap();
    let mut y = vec![bf16::NAN; 300];
    let view = MatMut::new(&mut y, 1, 300).unwrap();
    many.run(&Gemm::new(x, &w, Width::A8), view, &mut workspace)
        .unwrap();
    assert_eq!(y, reference::gemm(x, &w, Width::A8, None).unwrap());
}

/// `W4AX_CPU` selects an instruction set; an unavailable one is an error. Runs in its own process,
/// because the variable is global.
#[test]
fn environment_selects_instruction_set() {
    const ASKED: &str = "W4AX_TEST_PRINT_PATH";
    if std::env::var_os(ASKED).is_some() {
        match Cpu::new() {
            Ok(cpu) => println!("path={}", cpu.isa().name()),
            Err(e) => println!("error={e}"),
        }
        return;
    }
    let run = |value: &str| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "environment_selects_instruction_set",
                "--nocapture",
            ])
            .env(ASKED, "1")
            .env("W4AX_CPU", value)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for isa in Isa::ALL {
        let expected = if isa.is_available() {
            "path="
        } else {
            "error="
        };
        let said = run(isa.name());
        assert!(
            said.contains(expected) && said.contains(isa.name()),
            "{said}"
        );
    }
    assert!(run("").contains(&format!("path={}", Isa::best().name())));
    let said = run("avx1024");
    assert!(
        said.contains("error=") && said.contains("`avx1024`"),
        "{said}"
    );
}
