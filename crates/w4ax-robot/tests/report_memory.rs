//! The memory of the rules' state in `report::overheads` is what they allocate. A test alone in
//! its program: the allocator counts the bytes of all threads.

use test_support::{MeasuringAllocator, heap_of};
use w4ax::dispatch::{
    ConsistencyConfig, ConsistencyRule, DispatchConfig, Dispatcher, MotionScale, Thresholds,
    UncertaintyQuantiles,
};
use w4ax_robot::report::overheads::memory;

#[global_allocator]
static ALLOCATOR: MeasuringAllocator = MeasuringAllocator;

#[test]
fn memory_is_what_the_rules_allocate() {
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let thresholds = Thresholds {
        theta_24: 0.1,
        theta_48: 0.3,
        theta_fp: 0.5,
    };
    let config = DispatchConfig::new(motion, thresholds);
    let reported = memory(&config).unwrap();
    let bytes = |part| reported.iter().find(|m| m.part == part).unwrap().bytes;

    let (dispatcher, held) = heap_of(|| Box::new(Dispatcher::new(&config).unwrap()));
    assert_eq!(bytes("dispatcher of dyq"), held.kept);
    drop(dispatcher);

    let quantiles = [0.0; UncertaintyQuantiles::POINTS];
    let quantiles = UncertaintyQuantiles::new(&quantiles, &quantiles).unwrap();
    let rule = ConsistencyConfig::with_kinematics(config).with_gate(0.8, quantiles);
    let (rule, held) = heap_of(|| Box::new(ConsistencyRule::new(&rule).unwrap()));
    assert_eq!(bytes("consistency rule, with quantiles"), held.kept);
    drop(rule);
}
