//! What a log promised: the model.

use std::collections::BTreeMap;
use std::ops::Range;

use thalweg::PartitionConfig;
use thalweg_tests::Row;

/// A record as the model knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// A batch that was sent and not answered.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub facts: Vec<Fact>,
    /// The joint append it is part of.
    pub joint: Option<u64>,
}

/// A partition as promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub config: PartitionConfig,
    /// Records by offset: acknowledged, or read after a restart.
    pub known: BTreeMap<u64, Fact>,
    /// Offsets below it may be gone; an acknowledged trim, or where the log was seen to start.
    pub log_start: u64,
    /// Trims without an answer.
    pub trims: Vec<u64>,
    /// In the order they were sent.
    pub sent: Vec<Sent>,
}

impl Truth {
    /// The offset after the last known one.
    pub(crate) fn end(&self) -> u64 {
        self.known.last_key_value().map_or(self.log_start, |(offset, _)| offset + 1).max(self.log_start)
    }

    pub(crate) fn acknowledge(&mut self, base: u64, facts: &[Fact]) {
        for (offset, fact) in (base..).zip(facts) {
            let before = self.known.insert(offset, fact.clone());
            assert!(before.is_none_or(|before| before == *fact), "offset {offset} was given twice");
        }
    }

    fn trims_by_itself(&self) -> bool {
        self.config.retention.bytes_max.is_some() || self.config.retention.age_max_ms.is_some()
    }

    /// Checks where the log starts.
    pub(crate) fn check_start(&self, name: &str, log_start: u64) {
        assert!(log_start >= self.log_start, "{name}: the log start went back to {log_start}");
        let asked = log_start == self.log_start || self.trims.contains(&log_start);
        assert!(asked || self.trims_by_itself(), "{name}: nobody trimmed to {log_start}");
    }

    /// Whether a record may be missing: a later one of its key is known.
    fn may_be_compacted(&self, offset: u64, fact: &Fact) -> bool {
        let mut later = self.known.range(offset + 1..).map(|(_, later)| later);
        self.config.compact && fact.key.is_some() && later.any(|later| later.key == fact.key)
    }

    /// Checks what was read of `asked` and perhaps behind it, and returns the batches among it that were
    /// sent and not answered: index in `sent`, and first offset.
    ///
    /// Retention may have trimmed up to `log_start` while the rows were read.
    pub(crate) fn check_rows(
        &self,
        name: &str,
        asked: Range<u64>,
        log_start: u64,
        rows: &[Row],
    ) -> Vec<(usize, u64)> {
        let found: BTreeMap<u64, Fact> = rows
            .iter()
            .map(|row| {
                let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
                (row.offset, Fact { key: bytes(&row.record.key), value: bytes(&row.record.value) })
            })
            .collect();
        assert_eq!(found.len(), rows.len(), "{name}: an offset was read twice");
        assert!(rows.windows(2).all(|pair| pair[0].offset < pair[1].offset), "{name}: out of order");
        for (offset, fact) in self.known.range(asked.clone()) {
            match found.get(offset) {
                Some(same) => assert_eq!(same, fact, "{name}@{offset} has changed"),
                None => {
                    let first = rows.first().map_or(u64::MAX, |row| row.offset);
                    let trimmed = *offset < log_start && self.trims_by_itself();
                    assert!(
                        trimmed || self.may_be_compacted(*offset, fact),
                        "{name}@{offset} is gone: {fact:?}, {:?}; read {asked:?} as {first}..{}",
                        self.config,
                        rows.last().map_or(0, |row| row.offset)
                    );
                }
            }
        }
        self.place_unknown(name, &found)
    }

    fn place_unknown(&self, name: &str, found: &BTreeMap<u64, Fact>) -> Vec<(usize, u64)> {
        let mut unknown = found.iter().filter(|(offset, _)| !self.known.contains_key(offset)).peekable();
        let mut placed = Vec::new();
        let mut next = 0;
        while let Some((base, first)) = unknown.peek().map(|(offset, fact)| (**offset, (*fact).clone())) {
            let index = (next..self.sent.len()).find(|index| self.sent[*index].facts[0] == first);
            let index = index.unwrap_or_else(|| panic!("{name}@{base}: nobody sent {first:?}"));
            for (offset, fact) in (base..).zip(&self.sent[index].facts) {
                let row = unknown.next();
                assert_eq!(row, Some((&offset, fact)), "{name}@{offset}: a batch was torn apart");
            }
            placed.push((index, base));
            next = index + 1;
        }
        placed
    }

    /// A restart has shown which of the unanswered batches are there; the others never will be.
    /// Returns the joint appends of both.
    pub(crate) fn settle(&mut self, log_start: u64, placed: &[(usize, u64)]) -> (Vec<u64>, Vec<u64>) {
        let (mut there, mut lost) = (Vec::new(), Vec::new());
        for (index, sent) in std::mem::take(&mut self.sent).into_iter().enumerate() {
            match placed.iter().find(|(found, _)| *found == index) {
                Some((_, base)) => {
                    self.acknowledge(*base, &sent.facts);
                    there.extend(sent.joint);
                }
                None => lost.extend(sent.joint),
            }
        }
        self.trims.clear();
        self.log_start = log_start;
        self.known = self.known.split_off(&log_start);
        (there, lost)
    }
}
