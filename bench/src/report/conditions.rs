//! The conditions of a run, by name.

use super::units::{NO_VALUE, grouped};
use crate::machine::Machine;
use crate::result::{Effort, Report};

/// One condition, for people.
pub(crate) struct Condition {
    /// What it is.
    pub(crate) name: &'static str,
    /// What it was.
    pub(crate) text: String,
}

/// What two runs must share for their figures to be compared.
pub(crate) fn conditions(report: &Report) -> Vec<Condition> {
    let Machine {
        cpu,
        cores,
        memory_bytes,
        kernel,
        file_system,
        device,
        write_cache,
        fua,
        scheduler,
        backend,
        strategy,
        ack,
        ..
    } = &report.machine;
    let memory = format!("{:.1} GiB", *memory_bytes as f64 / f64::from(1 << 30));
    let fua = if *fua { "yes" } else { "no" };
    let all = [
        ("kernel", kernel.clone()),
        ("file system", file_system.clone()),
        ("device", device.clone()),
        ("write cache", write_cache.clone()),
        ("fua", fua.into()),
        ("scheduler", scheduler.clone()),
        ("cpu", cpu.clone()),
        ("cores", cores.to_string()),
        ("memory", memory),
        ("backend", backend.clone()),
        ("strategy", strategy.clone()),
        ("ack", ack.clone()),
        ("effort", effort(report.effort)),
    ];
    all.into_iter().map(|(name, text)| Condition { name, text: or_no_value(text) }).collect()
}

/// What was run and when, such as `thalweg 0.1.0 (1a2b3c4), 2025-11-21 17:30 UTC`.
pub(crate) fn build(machine: &Machine) -> String {
    let commit = &machine.commit;
    let commit = if commit.is_empty() { String::new() } else { format!(" ({commit})") };
    format!("thalweg {}{commit}, {}", or_no_value(machine.version.clone()), date(machine.began_unix_s))
}

fn effort(effort: Effort) -> String {
    let rounds = if effort.rounds == 1 { "1 round".into() } else { format!("{} rounds", effort.rounds) };
    let quick = if effort.quick { ", quick" } else { "" };
    format!("{rounds} of {} s{quick}", effort.seconds)
}

fn or_no_value(text: String) -> String {
    if text.trim().is_empty() { NO_VALUE.into() } else { text }
}

/// Day and minute of a time since the Unix epoch, in UTC.
fn date(unix_s: u64) -> String {
    // Days are counted in eras of 400 years that begin on a 1 March: a leap day is a year's last.
    let days = unix_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (unix_s % 86_400 / 3600, unix_s % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Samples, for people.
pub(crate) fn samples(count: u64) -> String {
    grouped(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_868_740, "2000-02-29 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_763_746_200, "2025-11-21 17:30 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ];
        for (unix_s, want) in cases {
            assert_eq!(date(unix_s), want);
        }
        // Nothing overflows, whatever a file says.
        assert!(date(u64::MAX).ends_with("UTC"));
    }
}
