//! The tables, as Markdown, and the JSON.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::conditions::Conditions;
use super::load::{BATCH_RECORDS, RECORD_BYTES, WRITERS, Workload};
use super::run::{Measured, Row};
use super::{Result, floor, thalweg};

/// For the versions the peers were built with.
const LOCKED: &str = include_str!("../../../Cargo.lock");

/// A row as JSON.
#[derive(Serialize)]
struct JsonRow<'a> {
    workload: &'a str,
    name: &'a str,
    version: Option<&'a str>,
    syncs: &'a str,
    warm_up_appends: u64,
    p999_us_of_all_rounds: f64,
    rounds: &'a [Measured],
}

#[derive(Serialize)]
struct Json<'a> {
    conditions: &'a Conditions,
    rows: Vec<JsonRow<'a>>,
}

/// Writes every figure of every round.
pub(super) fn write_json(path: &Path, conditions: &Conditions, rows: &[Row]) -> Result<()> {
    let rows = rows.iter().map(|row| JsonRow {
        workload: row.workload.name(),
        name: row.about.name,
        version: row.about.package.and_then(locked_version),
        syncs: row.about.syncs,
        warm_up_appends: row.warm_up_appends,
        p999_us_of_all_rounds: p999_us(row),
        rounds: &row.rounds,
    });
    let json = Json { conditions, rows: rows.collect() };
    fs::write(path, serde_json::to_string_pretty(&json)? + "\n")?;
    Ok(())
}

/// Prints the conditions, a table for each workload, and what each subject syncs.
pub(super) fn print(conditions: &Conditions, rows: &[Row]) {
    println!("{}\n", conditions.line());
    println!("Latencies and rates are medians over the rounds. A ratio is taken within each round, then its");
    println!(
        "median: to the device, and to the row `{}`. The p99.9, and bytes written to the",
        thalweg::WAIT.name
    );
    println!("device over bytes of records, flushes of the device and processor time are of all rounds");
    println!("together, because work in the background comes in lumps. Flushes that come together, the");
    println!("kernel makes one.");
    for workload in Workload::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        if !rows.is_empty() {
            println!("\n{}\n", title(workload));
            print_table(&table(workload, &rows));
        }
    }
    println!("\nWhat an acknowledged append has been through:\n");
    let mut said = Vec::new();
    for about in rows.iter().map(|row| row.about).filter(|about| about.package.is_some()) {
        if !said.contains(&about.name) {
            let version = about.package.and_then(locked_version).unwrap_or("?");
            println!("- **{}** {version}: {}.", about.name, about.syncs);
            said.push(about.name);
        }
    }
}

fn title(workload: Workload) -> String {
    match workload {
        Workload::One => "One append of one record in flight".into(),
        Workload::Many => {
            format!("{WRITERS} appends of one record in flight ({WRITERS} threads, if not said)")
        }
        Workload::Batch => format!("One batch of {BATCH_RECORDS} records in flight"),
    }
}

/// Cells of the table, the heading first. A latency is better small, a rate large: so are ratios.
fn table(workload: Workload, rows: &[&Row]) -> Vec<Vec<String>> {
    let by_name = |name| rows.iter().find(|row| row.about.name == name);
    let (device, own) = (by_name(floor::ABOUT.name), by_name(thalweg::WAIT.name));
    let ratio = |row: &Row, to: Option<&&Row>, figure: fn(&Measured) -> f64| match to {
        Some(to) => {
            let pairs = row.rounds.iter().zip(&to.rounds);
            number(median(pairs.map(|(row, to)| figure(row) / figure(to)).collect()))
        }
        None => "–".into(),
    };
    let figure =
        |row: &Row, figure: fn(&Measured) -> f64| number(median(row.rounds.iter().map(figure).collect()));
    let heading = match workload {
        Workload::One => [
            "",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "p50 × device",
            "p99 × device",
            "p50 × thalweg",
            "p99 × thalweg",
        ],
        Workload::Many | Workload::Batch => {
            ["", "records/s", "× device", "× thalweg", "answer p50 µs", "p99 µs", "p99.9 µs", "p99 × thalweg"]
        }
    };
    let mut table: Vec<Vec<String>> = vec![heading.into_iter().map(String::from).collect()];
    table[0].extend(["written B/B".into(), "flushes/append".into(), "CPU µs/record".into()]);
    for row in rows {
        let mut cells = vec![row.about.name.to_owned()];
        if workload == Workload::One {
            cells.extend([figure(row, |m| m.p50_us), figure(row, |m| m.p99_us), number(p999_us(row))]);
            cells.extend([ratio(row, device, |m| m.p50_us), ratio(row, device, |m| m.p99_us)]);
            cells.extend([ratio(row, own, |m| m.p50_us), ratio(row, own, |m| m.p99_us)]);
        } else {
            cells.push(figure(row, |m| m.records_per_s));
            cells.extend([ratio(row, device, |m| m.records_per_s), ratio(row, own, |m| m.records_per_s)]);
            cells.extend([figure(row, |m| m.p50_us), figure(row, |m| m.p99_us), number(p999_us(row))]);
            cells.push(ratio(row, own, |m| m.p99_us));
        }
        cells.extend(totals(row).map(number));
        table.push(cells);
    }
    table
}

/// Of all rounds: bytes written for each of a record, flushes for each append, µs for each record.
fn totals(row: &Row) -> [f64; 3] {
    let total = |figure: fn(&Measured) -> f64| row.rounds.iter().map(figure).sum::<f64>();
    let (appends, records) = (total(|m| m.appends as f64), total(|m| m.records as f64));
    [
        total(|m| m.device_bytes as f64) / (records * RECORD_BYTES as f64),
        total(|m| m.device_flushes as f64) / appends,
        total(|m| m.cpu_us) / records,
    ]
}

fn print_table(table: &[Vec<String>]) {
    let widths: Vec<usize> = (0..table[0].len())
        .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (at, row) in table.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("| {} |", cells.join(" | "));
        if at == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| match column {
                0 => "-".repeat(width + 2),
                _ => "-".repeat(width + 1) + ":",
            });
            println!("|{}|", rules.collect::<Vec<_>>().join("|"));
        }
    }
}

/// Three digits that matter, and no exponent.
fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => {
            let digits = format!("{value:.0}");
            let (high, low) = digits.split_at(digits.len() - 3);
            if high.len() > 3 {
                return format!("{},{},{low}", &high[..high.len() - 3], &high[high.len() - 3..]);
            }
            format!("{high},{low}")
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn p999_us(row: &Row) -> f64 {
    row.latency.value_at_quantile(0.999) as f64 / 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (len, half) if len % 2 == 0 => (values[half - 1] + values[half]) / 2.0,
        (_, half) => values[half],
    }
}

/// The version of `package` in the lock file.
fn locked_version(package: &str) -> Option<&'static str> {
    let entry =
        LOCKED.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{package}\"\n")))?;
    entry.lines().find_map(|line| line.strip_prefix("version = "))?.split('"').nth(1)
}
