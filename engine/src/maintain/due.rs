//! When full WAL files are sealed, and how many of them as one: pure functions.
//!
//! Sealing fewer than could go together costs short runs, which are merged later: each byte is written
//! once more. Waiting costs room in the ring. So they wait for each other only while there is plenty.

use crate::config::Config;

/// What decides besides the full files themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// Most files that are sealed as one.
    pub files_max: usize,
    /// Whether the oldest full file is as old as one may get.
    pub old: bool,
    /// Whether the log has no spare file, or no space for more of them.
    pub short: bool,
}

/// Most files that are sealed as one, with files of `file_bytes` and a ring of up to `wal_files_max`.
/// So few that they and the active one fit into the tail cache, and that as many can be filled while
/// they are sealed.
pub(super) fn files_max(config: &Config, file_bytes: u64, wal_files_max: usize) -> usize {
    let cached = (config.cache.bytes / file_bytes).saturating_sub(1);
    let followed = wal_files_max.saturating_sub(1) / 2;
    let wanted = u64::from(config.segment.seal_files_max);
    wanted.min(cached).min(followed as u64).max(1) as usize
}

/// How many full files to seal now, as one; 0 if they wait. `promotable` says of each, oldest first,
/// whether it becomes a segment where it lies: that costs next to nothing, so it is done at once, and
/// to it alone.
pub(super) fn due(promotable: impl Iterator<Item = bool>, outlook: &Outlook) -> usize {
    let mut leading = 0;
    for promotable in promotable {
        if promotable {
            return leading.max(1);
        }
        leading += 1;
        if leading == outlook.files_max {
            return leading;
        }
    }
    if outlook.old || outlook.short { leading } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Outlook = Outlook { files_max: 3, old: false, short: false };

    /// Full files, oldest first: `p` can be promoted, `s` is shared by many partitions.
    #[track_caller]
    fn check(full: &str, outlook: Outlook, want: usize) {
        assert_eq!(due(full.chars().map(|each| each == 'p'), &outlook), want, "{full} {outlook:?}");
    }

    #[test]
    fn shared_files_wait_for_each_other() {
        check("", PATIENT, 0);
        check("s", PATIENT, 0);
        check("ss", PATIENT, 0);
        check("sss", PATIENT, 3);
        check("ssss", PATIENT, 3);
        check("s", Outlook { files_max: 1, ..PATIENT }, 1);
    }

    #[test]
    fn a_file_to_promote_waits_for_nobody_and_is_alone() {
        check("p", PATIENT, 1);
        check("ps", PATIENT, 1);
        check("sp", PATIENT, 1);
        check("ssps", PATIENT, 2);
        check("sssp", PATIENT, 3);
    }

    #[test]
    fn nobody_waits_when_files_are_old_or_room_is_short() {
        for outlook in [Outlook { old: true, ..PATIENT }, Outlook { short: true, ..PATIENT }] {
            check("", outlook, 0);
            check("s", outlook, 1);
            check("ss", outlook, 2);
            check("ssss", outlook, 3);
        }
    }

    #[test]
    fn no_more_wait_than_are_cached_and_than_leave_room_to_write() {
        let files = |setting, cache_files: u64, wal_files_max| {
            let mut config = Config::default();
            config.segment.seal_files_max = setting;
            config.cache.bytes = cache_files << 20;
            files_max(&config, 1 << 20, wal_files_max)
        };
        assert_eq!(files(3, 4, 64), 3);
        assert_eq!(files(16, 4, 64), 3);
        assert_eq!(files(2, 4, 64), 2);
        assert_eq!(files(3, 1, 64), 1);
        assert_eq!(files(3, 4, 3), 1);
        assert_eq!(files(3, 4, 6), 2);
        // Full ones, the active one, and as many behind it.
        for wal_files_max in 3..64 {
            let waiting = files(16, 100, wal_files_max);
            assert!(waiting == 1 || 2 * waiting < wal_files_max);
        }
    }
}
