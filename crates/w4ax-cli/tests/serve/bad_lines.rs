//! Lines that are not requests.

use serde_json::json;

use crate::rollouts;
use crate::server::Server;

/// Lines that must be rejected.
fn bad_lines() -> Vec<Vec<u8>> {
    let obs = |first: &str, numbers: usize| {
        let rest = ",0".repeat(numbers - 1);
        format!("{{\"obs\": [{first}{rest}]}}")
    };
    let text = [
        "",
        "   ",
        "hello",
        "{",
        "[]",
        "null",
        "[true, 0]",
        "{}",
        r#"{"reset": true}"#,
        r#"{"task": 0}"#,
        r#"{"reset": false, "task": 0}"#,
        r#"{"reset": 1, "task": 0}"#,
        r#"{"reset": true, "task": 6}"#,
        r#"{"reset": true, "task": -1}"#,
        r#"{"reset": true, "task": 0.5}"#,
        r#"{"reset": true, "task": "Drop"}"#,
        r#"{"reset": true, "task": ["Lift"]}"#,
        r#"{"reset": true, "task": null}"#,
        r#"{"reset": true, "task": 0, "width": "a4"}"#,
        r#"{"reset": true, "task": 0, "executed": [0,0,0,0,0,0,0]}"#,
        r#"{"describe": false}"#,
        r#"{"describe": true, "task": 0}"#,
        r#"{"describe": true, "width": "a4"}"#,
        r#"{"describe": true, "reset": true, "task": 0}"#,
        r#"{"reset": true, "task": 0, "seed": 1}"#,
        r#"{"obs": null}"#,
        r#"{"obs": 3}"#,
        r#"{"obs": []}"#,
        r#"{"obs": {}}"#,
        &obs("0", 24),
        &obs("0", 26),
        &obs("null", 25),
        &obs("\"0\"", 25),
        &obs("true", 25),
        &obs("NaN", 25),
        &obs("1e39", 25),
        &obs("-1e400", 25),
        &obs("0", 25).replace('}', ", \"task\": 0}"),
        &obs("0", 25).replace('}', ", \"reset\": true, \"task\": 0}"),
        &obs("0", 25).replace('}', ", \"width\": 2}"),
        &obs("0", 25).replace('}', ", \"width\": \"a3\"}"),
        &obs("0", 25).replace('}', ", \"width\": {\"a4\": null}}"),
        &obs("0", 25).replace('}', ", \"width\": null}"),
        &obs("0", 25).replace('}', ", \"executed\": [0,0,0,0,0,0]}"),
        &obs("0", 25).replace('}', ", \"executed\": null}"),
        &obs("0", 25).replace('}', ", \"describe\": true}"),
        &obs("0", 25).repeat(2),
        &format!("{}{}", obs("0", 25), "x".repeat(100_000)),
        &"[".repeat(60_000),
        &"[".repeat(3_000_000),
    ];
    let mut lines: Vec<Vec<u8>> = text.map(|line| line.as_bytes().to_vec()).into();
    lines.push(vec![0xFF, 0xFE, 0x00]);
    lines.push(b"{\"obs\": \"\xC3\x28\"}".to_vec());
    lines
}

/// Every bad line gets one error. The other lines get the replies that they get without the bad
/// ones.
#[test]
fn bad_line_changes_no_state() {
    let rollouts = rollouts();
    let bad = bad_lines();
    let mut clean = Server::start("dynamic");
    let mut disturbed = Server::start("dynamic");
    let mut next = bad.iter().cycle();
    let mut disturb = |server: &mut Server| {
        for line in next.by_ref().take(3) {
            let reply = server.request(line);
            let fields = reply.as_object().unwrap();
            let start = String::from_utf8_lossy(&line[..line.len().min(60)]);
            assert!(
                fields.len() == 1 && fields["error"].is_string(),
                "{start}: {reply}"
            );
        }
    };
    let step = json!({"obs": rollouts.obs[0]}).to_string();
    let early = disturbed.request(step.as_bytes());
    assert!(
        early["error"].as_str().unwrap().contains("reset"),
        "{early}"
    );
    disturb(&mut disturbed);
    for server in [&mut clean, &mut disturbed] {
        server.reset(rollouts.task[0]);
    }
    for obs in &rollouts.obs[..30] {
        disturb(&mut disturbed);
        assert_eq!(disturbed.step(obs), clean.step(obs));
    }
    clean.end();
    disturbed.end();
}
