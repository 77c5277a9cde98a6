//! Names for the numbers of an action.

use w4ax::dispatch::{ActionLayout, ActionPart};

/// Returns a name for each of `dims` numbers: those of an end effector if there are 7, those of
/// ALOHA's arms if there are 14.
pub fn names(dims: usize) -> Vec<String> {
    let layouts = [ActionLayout::end_effector(), ActionLayout::aloha()];
    match layouts.iter().find(|layout| layout.dims() == dims) {
        Some(layout) => layout_names(layout),
        None => (1..=dims).map(|number| number.to_string()).collect(),
    }
}

fn layout_names(layout: &ActionLayout) -> Vec<String> {
    let arms: Vec<&[ActionPart]> = layout.arms().collect();
    let prefixes: &[&str] = match arms.len() {
        1 => &[""],
        _ => &["left ", "right "],
    };
    let named = |(arm, prefix): (&&[ActionPart], &&str)| -> Vec<String> {
        let parts = arm.iter().flat_map(|part| part_names(*part));
        parts.map(|name| format!("{prefix}{name}")).collect()
    };
    arms.iter().zip(prefixes).flat_map(named).collect()
}

fn part_names(part: ActionPart) -> Vec<String> {
    let counted = |name: &str, count| match count {
        1 => vec![name.to_owned()],
        _ => (1..=count).map(|at| format!("{name} {at}")).collect(),
    };
    match part {
        ActionPart::Translation(_) => ["x", "y", "z"].map(String::from).to_vec(),
        ActionPart::AxisAngle(_) => ["rotation x", "rotation y", "rotation z"]
            .map(String::from)
            .to_vec(),
        ActionPart::Joints(count, _) => counted("joint", count),
        ActionPart::Gripper(count) => counted("gripper", count),
        other => counted("number", other.dims()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_name() {
        assert_eq!(
            names(7),
            [
                "x",
                "y",
                "z",
                "rotation x",
                "rotation y",
                "rotation z",
                "gripper"
            ]
        );
        let aloha = names(14);
        assert_eq!([&aloha[0], &aloha[6]], ["left joint 1", "left gripper"]);
        assert_eq!([&aloha[7], &aloha[13]], ["right joint 1", "right gripper"]);
        assert_eq!(names(3), ["1", "2", "3"]);
    }
}
