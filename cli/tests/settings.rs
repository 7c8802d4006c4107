//! The table of settings in `docs/settings.md` is that of `thalweg::Config`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use thalweg::Config;

/// A row of the table.
struct Row {
    default: String,
    range: String,
}

fn rows() -> BTreeMap<String, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let text = std::fs::read_to_string(path).expect("the table is there");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        assert_eq!(cells.len(), 6, "{line}");
        (cells[1].clone(), Row { default: cells[2].clone(), range: cells[3].clone() })
    };
    rows.map(row).collect()
}

/// The settings of a tree, by their paths.
fn leaves(path: &str, tree: &Value, found: &mut BTreeMap<String, Value>) {
    let Value::Object(fields) = tree else {
        found.insert(path.to_owned(), tree.clone());
        return;
    };
    for (name, field) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        leaves(&path, field, found);
    }
}

fn defaults() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    leaves("", &serde_json::to_value(Config::default()).expect("it is a tree"), &mut found);
    found
}

/// Whether a value is refused for what it is; other settings may be in its way.
fn refused(key: &str, value: u64) -> bool {
    let mut tree = serde_json::to_value(Config::default()).expect("it is a tree");
    let pointer = format!("/{}", key.replace('.', "/"));
    *tree.pointer_mut(&pointer).expect("the key is there") = value.into();
    match serde_json::from_value::<Config>(tree) {
        Ok(config) => config.validate().is_err_and(|error| error.key == key),
        Err(_) => true, // more than its type holds
    }
}

#[test]
fn every_setting_is_in_the_table_with_its_default() {
    let (rows, defaults) = (rows(), defaults());
    assert_eq!(rows.keys().collect::<Vec<_>>(), defaults.keys().collect::<Vec<_>>());
    for (key, value) in &defaults {
        let value = match value {
            Value::Null => "unset".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(rows[key].default, value, "{key}");
    }
}

#[test]
fn every_range_of_the_table_is_the_one_that_is_checked() {
    for (key, row) in rows() {
        if !defaults()[&key].is_number() && key != "shards" {
            continue;
        }
        let words: Vec<&str> = row.range.split([' ', ',']).collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("{key}: {}", row.range));
        let (least, most) = match words[..] {
            [_, "to", ..] => (number(0), Some(number(2))),
            [_, "or", "more", ..] => (number(0), None),
            _ => panic!("{key}: {}", row.range),
        };
        assert!(!refused(&key, least), "{key}={least}");
        assert!(least == 0 || refused(&key, least - 1), "{key}: less than {least}");
        if let Some(most) = most {
            assert!(!refused(&key, most), "{key}={most}");
            assert!(refused(&key, most + 1), "{key}: more than {most}");
        }
    }
}
