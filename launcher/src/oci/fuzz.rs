//! Real config.json files with random changes: the result is an error with a path, or a Config, and never a panic.

use super::parse;
use crate::cli::defaults;
use crate::json::read::fuzz::{CONFIGS, Random, rounds};
use serde_json::{Value, json};

/// A value of a random type.
fn odd(random: &mut Random) -> Value {
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let all = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(1.5),
        json!(1e300),
        json!(""),
        json!("/"),
        json!("a\0b"),
        json!("../../../.."),
        json!("rbind"),
        json!("SCMP_ACT_NOTIFY"),
        json!("\u{ffff}ä".repeat(300)),
        json!("x".repeat(70_000)),
        json!([]),
        json!([null]),
        json!(["", -1, {}]),
        json!({}),
        json!({"": null, "type": "bind", "path": [], "value": -1}),
        deep,
    ];
    all[random.below(all.len())].clone()
}

/// Changes something in a value, at a random depth.
fn mutate(value: &mut Value, random: &mut Random) {
    match value {
        Value::Array(items) if !items.is_empty() && random.below(8) > 0 => {
            let at = random.below(items.len());
            match random.below(6) {
                0 => items.push(odd(random)),
                1 => drop(items.remove(at)),
                2 => items.extend_from_within(..),
                _ => mutate(&mut items[at], random),
            }
        }
        Value::Object(members) if !members.is_empty() && random.below(12) > 0 => {
            let at = random.below(members.len());
            let name = members.keys().nth(at).unwrap().clone();
            match random.below(8) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert(name, odd(random))),
                _ => mutate(&mut members[&name], random),
            }
        }
        _ => *value = odd(random),
    }
}

#[test]
fn mutated_bundles_are_errors_or_configs() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut good, all) = (0, rounds(1500));
    for round in 0..all {
        let mut value: Value = serde_json::from_str(CONFIGS[round % CONFIGS.len()]).unwrap();
        // Sometimes unchanged.
        for _ in 0..random.below(4) {
            mutate(&mut value, &mut random);
        }
        let text = value.to_string().leak().as_bytes();
        match parse(text, "/bundle", &mut defaults()) {
            Ok(()) => good += 1,
            Err(error) => assert!(!error.is_empty() && !error.contains('\n'), "{error}"),
        }
    }
    assert!((all / 10..all).contains(&good), "{good} of {all} are bundles");
}
