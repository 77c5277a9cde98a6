//! The check of the memory before anything is loaded.

use w4ax_vla::VlaError;
use w4ax_vla::checkpoint::{MemoryPlan, available_memory};

fn plan() -> MemoryPlan {
    MemoryPlan::new()
        .add("vision", 1_500_000_000)
        .add("packed weights", 3_440_000_000)
        .add("KV cache", 150_000_000)
        .add("vision", 1)
        .add("head", 0)
}

#[test]
fn adds_up_the_bytes_of_each_part() {
    let plan = plan();
    assert_eq!(plan.total(), 5_090_000_001);
    let parts: Vec<_> = plan.parts().collect();
    assert_eq!(parts[0], ("vision", 1_500_000_001));
    assert_eq!(parts.len(), 4);
    let huge = MemoryPlan::new().add("a", u64::MAX).add("b", 1);
    assert_eq!(huge.total(), u64::MAX);
}

#[test]
fn rejects_a_model_that_does_not_fit() {
    let plan = plan();
    plan.check_against("model", plan.total()).unwrap();
    let available = plan.total() - 1;
    let error = plan.check_against("openvla-7b", available).unwrap_err();
    assert!(
        matches!(&error, VlaError::Memory { needed, available: a, .. }
            if *needed == plan.total() && *a == available),
        "{error}"
    );
    let expected = "openvla-7b (packed weights 3440 MB, vision 1501 MB, KV cache 150 MB) needs \
                    5091 MB of memory: expected at most 5090 MB, which are available";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn checks_against_the_memory_of_the_machine() {
    let available = available_memory();
    assert!(available > 1 << 20, "{available}");
    MemoryPlan::new().add("a", 1 << 20).check("model").unwrap();
    let more = MemoryPlan::new().add("a", available.saturating_mul(1000));
    assert!(matches!(more.check("model"), Err(VlaError::Memory { .. })));
}
