//! What owners have said and been found to hold: what the log owes.

use std::collections::BTreeMap;
use std::mem;

/// One partition's part.
#[derive(Clone, Debug, Default)]
struct Owed {
    /// Records below the first number are of the second's life, or an earlier entry's.
    lives: Vec<(u64, u32)>,
    /// Records below it are there: acknowledged, or read once.
    end_least: u64,
    /// Records from it on were never sent.
    end_most: u64,
    /// The log start offset lies in between.
    start: (u64, u64),
}

/// What is owed, by partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    owed: BTreeMap<u32, Owed>,
}

/// What a look found in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    start: u64,
    end: u64,
    /// Life, first offset, end.
    runs: Vec<(u32, u64, u64)>,
}

/// What a look found, by partition.
pub(crate) type Contents = BTreeMap<u32, Found>;

/// The numbers behind the first word of a line.
fn numbers<const N: usize>(line: &str) -> [u64; N] {
    let mut words = line.split(' ').skip(1).map(|word| word.parse().ok());
    std::array::from_fn(|_| words.next().flatten().unwrap_or_else(|| panic!("{line:?}: {N} numbers")))
}

/// What a look has said, if it came to its end and found nothing wrong.
pub(crate) fn contents(said: &[String]) -> Result<Contents, String> {
    let mut contents = Contents::new();
    for line in said {
        let word = line.split(' ').next().unwrap_or_default();
        match word {
            "wrong" => return Err(line.clone()),
            "start" | "end" => {
                let [id, offset] = numbers(line);
                let found: &mut Found = contents.entry(id as u32).or_default();
                *if word == "end" { &mut found.end } else { &mut found.start } = offset;
            }
            "run" => {
                let [id, life, from, to] = numbers(line);
                contents.entry(id as u32).or_default().runs.push((life as u32, from, to));
            }
            _ => {}
        }
    }
    if said.last().is_some_and(|line| line == "done") {
        return Ok(contents);
    }
    Err(format!("the look ended early: {:?}", said.last()))
}

impl Ledger {
    /// Takes what an owner has said until it was killed.
    pub(crate) fn hear(&mut self, said: &[String]) -> Result<(), String> {
        for line in said {
            let word = line.split(' ').next().unwrap_or_default();
            if word == "wrong" {
                return Err(line.clone());
            }
            if !matches!(word, "will" | "acked" | "trim" | "trimmed") {
                continue;
            }
            let [id, offset] = numbers(line);
            let owed = self.owed.entry(id as u32).or_default();
            match word {
                "will" => owed.end_most = owed.end_most.max(offset),
                "acked" => owed.end_least = owed.end_least.max(offset),
                "trim" => owed.start.1 = owed.start.1.max(offset),
                _ => owed.start.0 = owed.start.0.max(offset),
            }
        }
        Ok(())
    }

    /// Compares what is there with what is owed, after the death of an owner in its life `life`. From
    /// here on all of it is owed, and nothing else: what is not there never comes back.
    pub(crate) fn settle(&mut self, contents: &Contents, life: u32) -> Result<(), String> {
        if let Some((id, owed)) =
            self.owed.iter().find(|(id, owed)| owed.end_least > 0 && !contents.contains_key(id))
        {
            return Err(format!("p{id} is gone, with {} records", owed.end_least));
        }
        for (id, found) in contents {
            let owed = self.owed.entry(*id).or_default();
            owed.settle(found, life).map_err(|why| format!("p{id}: {why}"))?;
        }
        Ok(())
    }

    /// Records that are acknowledged or were read.
    pub(crate) fn records(&self) -> u64 {
        self.owed.values().map(|owed| owed.end_least).sum()
    }
}

impl Owed {
    fn settle(&mut self, found: &Found, life: u32) -> Result<(), String> {
        if found.end < self.end_least || found.end > self.end_most.max(self.end_least) {
            let (least, most) = (self.end_least, self.end_most);
            return Err(format!("ends at {}; {least} were acknowledged, {most} sent", found.end));
        }
        if found.start < self.start.0 || found.start > self.start.1 {
            return Err(format!("starts at {}, trimmed to {:?}", found.start, self.start));
        }
        if self.lives.last().is_none_or(|(end, _)| *end < found.end) {
            self.lives.push((found.end, life));
        }
        self.lives.retain(|(end, _)| *end > found.start);
        let mut next = found.start;
        let mut wanted = Vec::new();
        for (end, life) in &self.lives {
            wanted.push((*life, mem::replace(&mut next, *end), *end));
        }
        if wanted != found.runs {
            return Err(format!("holds {:?}, and these were appended and found: {wanted:?}", found.runs));
        }
        (self.end_least, self.end_most) = (found.end, found.end);
        self.start = (found.start, found.start);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    /// What a ledger says of a look behind a life that announced 10 records and got 4 acknowledged.
    fn after(look: &[&str]) -> Result<(), String> {
        let mut ledger = Ledger::default();
        ledger.hear(&said(&["opened 0 0", "will 0 10", "acked 0 4"])).unwrap();
        ledger.settle(&contents(&said(look))?, 1)
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_sent_may() {
        for end in 4..=10 {
            after(&["start 0 0", &format!("run 0 1 0 {end}"), &format!("end 0 {end}"), "done"]).unwrap();
        }
        for look in [
            &["done"][..],
            &["start 0 0", "run 0 1 0 3", "end 0 3", "done"],
            &["start 0 0", "run 0 1 0 11", "end 0 11", "done"],
            &["start 0 1", "run 0 1 1 5", "end 0 5", "done"],
            &["start 0 0", "run 0 2 0 5", "end 0 5", "done"],
            &["start 0 0", "run 0 1 0 5", "wrong", "end 0 5", "done"],
            &["start 0 0", "run 0 1 0 5", "end 0 5"],
        ] {
            after(look).unwrap_err();
        }
    }

    #[test]
    fn what_was_not_there_never_comes_back() {
        let mut ledger = Ledger::default();
        ledger.hear(&said(&["will 0 10", "acked 0 4"])).unwrap();
        let first = contents(&said(&["start 0 0", "run 0 1 0 5", "end 0 5", "done"])).unwrap();
        ledger.settle(&first, 1).unwrap();
        ledger.hear(&said(&["will 0 20", "acked 0 8"])).unwrap();
        let back = contents(&said(&["start 0 0", "run 0 1 0 7", "run 0 2 7 8", "end 0 8", "done"]));
        ledger.clone().settle(&back.unwrap(), 2).unwrap_err();
        let anew = contents(&said(&["start 0 0", "run 0 1 0 5", "run 0 2 5 8", "end 0 8", "done"]));
        ledger.settle(&anew.unwrap(), 2).unwrap();
    }
}
