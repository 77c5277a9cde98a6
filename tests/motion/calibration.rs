//! Calibrations of other layouts, and their files.

use w4ax::Error;
use w4ax::calibrate::{Calibration, CalibrationSettings, Episode, calibrate, motion_scales};
use w4ax::dispatch::{ActionLayout, Dispatcher};

/// One episode of ALOHA whose actions deviate more at lower widths. The second arm rests in the
/// second half.
fn episode() -> Episode<Vec<f64>> {
    let action = |t: usize, deviation: f64| {
        let mut action = vec![0.0; 14];
        let phase = t as f64 / 20.0;
        action[0] = 2.0 * phase.sin() + deviation * (t % 2) as f64;
        action[7] = 0.5 * phase.min(15.0).cos();
        (action[6], action[13]) = ((t % 3) as f64, 1.0);
        action
    };
    let actions = |deviation: f64| (0..600).map(|t| action(t, deviation)).collect::<Vec<_>>();
    Episode {
        task: 0,
        reference: actions(0.0),
        at_width: [actions(0.03), actions(0.01), actions(0.001), actions(0.001)],
    }
}

fn settings() -> CalibrationSettings {
    CalibrationSettings::default()
        .with_layout(ActionLayout::aloha())
        .with_d_acc(0.01)
}

#[test]
fn calibrates_any_layout_and_reads_its_file_back() {
    let calibration = calibrate(&["Insert"], &[episode()], &settings())
        .unwrap()
        .calibration;
    // The first joint moves by at most 2 * 2 sin(1 / 40), and by .03 at 2 bits.
    let motion = calibration.tasks[0].motion;
    let fastest = 4.0 * (1.0_f64 / 40.0).sin() + 0.03;
    assert!(
        (0.9 * fastest..fastest).contains(&motion.mu_max),
        "{motion:?}"
    );
    let json = calibration.to_json().unwrap();
    assert!(json.contains("\"format\": 2,"), "{json}");
    let text = "\"layout\": \"joints6:absolute,gripper+joints6:absolute,gripper\"";
    assert!(json.contains(text), "{json}");
    assert_eq!(
        Calibration::from_json(json.as_bytes(), "c").unwrap(),
        calibration
    );
    let config = calibration.dispatch_config("Insert").unwrap();
    assert_eq!(config.layout(), &ActionLayout::aloha());
    Dispatcher::new(&config)
        .unwrap()
        .observe(&[0.0; 14])
        .unwrap();
    for (from, to, expected) in [
        (
            "\"format\": 2",
            "\"format\": 1",
            "`layout` requires `format` 2",
        ),
        (text, "\"other\": 0", "missing field `layout`"),
        (text, "\"layout\": \"joints\"", "has part `joints`"),
        (text, "\"layout\": 14", "`layout`: invalid type"),
    ] {
        let changed = json.replace(from, to);
        assert_ne!(changed, json);
        let error = Calibration::from_json(changed.as_bytes(), "c").unwrap_err();
        assert!(matches!(error, Error::Format { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// The file of the default layout is that of format 1.
#[test]
fn default_layout_keeps_its_file() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/robot/calibration.json"
    );
    let calibration = Calibration::load(path).unwrap();
    assert_eq!(calibration.layout, ActionLayout::default());
    let json = calibration.to_json().unwrap();
    assert!(
        json.contains("\"format\": 1,") && !json.contains("layout"),
        "{json}"
    );
}

#[test]
fn rejects_actions_of_another_layout() {
    let message = |episode: Episode<Vec<f64>>, layout: ActionLayout| {
        let error = motion_scales(&["Insert"], &[episode], &layout).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
        error.to_string()
    };
    let error = message(episode(), ActionLayout::default());
    assert_eq!(error, "action has shape [14]: expected [7]");
    let mut uneven = episode();
    uneven.at_width[2][5].pop();
    let error = message(uneven, ActionLayout::aloha());
    assert!(
        error.starts_with("W4A8 actions of an episode has shape"),
        "{error}"
    );
}
