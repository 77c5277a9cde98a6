//! One path in all representations has one motion.

use proptest::prelude::*;

use crate::steps;

type Matrix = [[f64; 3]; 3];

/// Rodrigues' formula: the matrix of a rotation vector.
fn matrix([x, y, z]: [f64; 3]) -> Matrix {
    let angle = (x * x + y * y + z * z).sqrt();
    let k = [[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]];
    let (a, b) = match angle < 1e-4 {
        true => (1.0 - angle * angle / 6.0, 0.5 - angle * angle / 24.0),
        false => (angle.sin() / angle, (1.0 - angle.cos()) / (angle * angle)),
    };
    let square = product(&k, &k);
    std::array::from_fn(|i| {
        std::array::from_fn(|j| f64::from(i == j) + a * k[i][j] + b * square[i][j])
    })
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// The columns of a 6D rotation with the lengths and the shear that Gram-Schmidt removes.
fn six(r: &Matrix, shear: f64) -> Vec<f64> {
    let first = r.map(|row| row[0] * (1.0 + shear));
    let second = r.map(|row| 2.0 * row[1] + shear * row[0]);
    [first, second].concat()
}

fn euler(r: &Matrix) -> Vec<f64> {
    let roll = r[2][1].atan2(r[2][2]);
    let pitch = (-r[2][0]).atan2(r[2][1].hypot(r[2][2]));
    vec![roll, pitch, r[1][0].atan2(r[0][0])]
}

fn wxyz([x, y, z]: [f64; 3], scale: f64) -> Vec<f64> {
    let angle = (x * x + y * y + z * z).sqrt();
    let s = if angle == 0.0 {
        0.5
    } else {
        (angle / 2.0).sin() / angle
    };
    [(angle / 2.0).cos(), s * x, s * y, s * z]
        .map(|q| q * scale)
        .to_vec()
}

/// Compares steps from the second one on, which has a speed in absolute layouts too.
#[track_caller]
fn assert_same(name: &str, got: &[Option<(f64, f64)>], expected: &[Option<(f64, f64)>]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (t, (got, expected)) in got.iter().zip(expected).enumerate() {
        match (got, expected) {
            (None, None) => assert_eq!(t, 0, "{name}"),
            (Some(got), Some(expected)) => {
                let apart = (got.0 - expected.0).abs().max((got.1 - expected.1).abs());
                assert!(apart < 1e-12, "{name} step {t}: {got:?} not {expected:?}");
            }
            _ => panic!("{name} step {t}: {got:?} not {expected:?}"),
        }
    }
}

fn vector(size: f64) -> impl Strategy<Value = [f64; 3]> {
    prop::array::uniform3(-size..size)
}

proptest! {
    #[test]
    fn absolute_representations_agree(
        poses in prop::collection::vec((vector(1.0), vector(0.8), -0.3..0.3_f64), 3..12),
    ) {
        let with = |rotation: &dyn Fn([f64; 3], f64) -> Vec<f64>| -> Vec<Vec<f64>> {
            let pose = |&(xyz, v, s): &([f64; 3], [f64; 3], f64)| [xyz.to_vec(), rotation(v, s)].concat();
            poses.iter().map(pose).collect()
        };
        let vectors = with(&|v, _| v.to_vec());
        let expected = steps("xyz:absolute,axis-angle:absolute", &vectors);
        let scale = |s: f64| if s < 0.0 { -1.0 + s } else { 1.0 + s };
        let layout = "xyz:absolute,quaternion-wxyz:absolute";
        assert_same(layout, &steps(layout, &with(&|v, s| wxyz(v, scale(s)))), &expected);
        let xyzw = with(&|v, s| {
            let mut q = wxyz(v, scale(s));
            q.rotate_left(1);
            q
        });
        let layout = "xyz:absolute,quaternion-xyzw:absolute";
        assert_same(layout, &steps(layout, &xyzw), &expected);
        let layout = "xyz:absolute,6d:absolute";
        assert_same(layout, &steps(layout, &with(&|v, s| six(&matrix(v), s))), &expected);
        let layout = "xyz:absolute,euler:absolute";
        assert_same(layout, &steps(layout, &with(&|v, _| euler(&matrix(v)))), &expected);
    }

    /// R(t) = D(t) R(t-1), so the changes D have the motion of the rotations R.
    #[test]
    fn changes_and_positions_agree(
        start in (vector(1.0), vector(1.5)),
        changes in prop::collection::vec((vector(1.0), vector(0.8)), 2..12),
    ) {
        let (mut xyz, mut r) = (start.0, matrix(start.1));
        let mut positions = vec![[xyz.to_vec(), six(&r, 0.0)].concat()];
        let mut by_delta = vec![];
        for (step, turn) in &changes {
            xyz = std::array::from_fn(|i| xyz[i] + step[i]);
            r = product(&matrix(*turn), &r);
            positions.push([xyz.to_vec(), six(&r, 0.0)].concat());
            by_delta.push([step.to_vec(), turn.to_vec()].concat());
        }
        let expected = steps("xyz:delta,axis-angle:delta", &by_delta);
        let layout = "xyz:absolute,6d:absolute";
        let got = steps(layout, &positions);
        prop_assert_eq!(got[0], None);
        assert_same(layout, &got[1..], &expected);
        // Changes in other representations.
        let with = |rotation: &dyn Fn([f64; 3]) -> Vec<f64>| -> Vec<Vec<f64>> {
            changes.iter().map(|(xyz, v)| [xyz.to_vec(), rotation(*v)].concat()).collect()
        };
        let layout = "xyz:delta,quaternion-wxyz:delta";
        assert_same(layout, &steps(layout, &with(&|v| wxyz(v, -1.5))), &expected);
        let layout = "xyz:delta,6d:delta";
        assert_same(layout, &steps(layout, &with(&|v| six(&matrix(v), 0.2))), &expected);
    }

    #[test]
    fn changes_and_positions_of_joints_agree(
        changes in prop::collection::vec(prop::collection::vec(-1.0..1.0_f64, 7), 2..12),
    ) {
        let mut at = vec![0.5; 7];
        let mut positions = vec![at.clone()];
        for change in &changes {
            at = at.iter().zip(change).map(|(a, d)| a + d).collect();
            positions.push(at.clone());
        }
        let got = steps("joints7:absolute", &positions);
        assert_same("joints7", &got[1..], &steps("joints7:delta", &changes));
    }
}
