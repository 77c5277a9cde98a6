//! A control step allocates nothing: a global allocator that counts, in a test binary of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use w4ax::WidthFlag;
use w4ax::dispatch::{Algorithm, DispatchConfig, Dispatcher, MotionScale, Thresholds};

thread_local! {
    /// Allocations of this thread: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator as it came; counting touches a `Cell` that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(call: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    call();
    ALLOCATIONS.get() - before
}

#[test]
fn a_step_allocates_nothing() {
    assert!(
        allocations_of(|| drop(std::hint::black_box(Box::new(1)))) > 0,
        "the allocator counts"
    );
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let thresholds = Thresholds {
        theta_24: 0.1,
        theta_48: 0.3,
        theta_fp: 0.5,
    };
    let flag = WidthFlag::new();
    for algorithm in [Algorithm::SaturatingCounter, Algorithm::Window] {
        let config = DispatchConfig {
            algorithm,
            ..DispatchConfig::new(motion, thresholds)
        };
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
