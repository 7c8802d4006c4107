//! From arguments to an open engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use indicatif::ProgressBar;
use thalweg::superblock::SUPERBLOCK_NAME;
use thalweg::{Config, ControlError, Engine, OpenError, Partition, PartitionInfo};

use crate::Global;
use crate::errors::WithHint;

/// Opening takes less than this unless there is much to recover, or another owner to wait for.
const SPINNER_AFTER: Duration = Duration::from_millis(400);
const SPINNER_TICK: Duration = Duration::from_millis(100);
/// The tail cache of a command, unless the configuration says otherwise. Below the usual limit on
/// locked memory, 8 MiB, and an import runs within a tenth of its speed with the engine's default.
const COMMAND_CACHE_BYTES: u64 = 8 << 20;

/// The settings: defaults, overlaid by the configuration file, overlaid by the command line.
pub(crate) fn config(global: &Global) -> anyhow::Result<Config> {
    let (mut config, cache_is_set) = match &global.config {
        Some(path) => read_config(path)?,
        None => (Config::default(), false),
    };
    if !cache_is_set {
        config.cache.bytes = config.cache_bytes_min().max(COMMAND_CACHE_BYTES);
    }
    if let Some(data_dir) = &global.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    config.validate().map_err(|error| match &global.config {
        Some(path) => anyhow!(error).context(format!("configuration {}", path.display())),
        None => anyhow!(error),
    })?;
    Ok(config)
}

/// The settings of a file, and whether `cache.bytes` is among them.
pub(crate) fn read_config(path: &Path) -> anyhow::Result<(Config, bool)> {
    let what = || format!("configuration {}", path.display());
    let words = |error: toml::de::Error| anyhow!("{}", error.to_string().trim_end());
    let text = fs::read_to_string(path).with_context(what)?;
    let config = toml::from_str(&text).map_err(words).with_context(what)?;
    let table: toml::Table = toml::from_str(&text).map_err(words).with_context(what)?;
    let cache_is_set = table.get("cache").is_some_and(|cache| cache.get("bytes").is_some());
    Ok((config, cache_is_set))
}

/// The data directory a command is about, which must exist.
pub(crate) fn existing_dir(global: &Global) -> anyhow::Result<PathBuf> {
    let data_dir = config(global)?.data_dir;
    require_data_dir(&data_dir)?;
    Ok(data_dir)
}

fn require_data_dir(data_dir: &Path) -> anyhow::Result<()> {
    let hint = "give the right --data-dir (or THALWEG_DATA_DIR); `thalweg log create` makes a new one";
    let superblock = data_dir.join(SUPERBLOCK_NAME);
    match fs::symlink_metadata(&superblock) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = if data_dir.exists() {
                format!("{} is no data directory: it has no {SUPERBLOCK_NAME}", data_dir.display())
            } else {
                format!("the data directory {} does not exist", data_dir.display())
            };
            Err(anyhow!(what)).hint(hint)
        }
        Err(error) => Err(error).with_context(|| superblock.display().to_string()),
    }
}

/// Opens a data directory that must exist: a mistyped name is an error, not a new log.
pub(crate) fn open_existing(config: Config) -> anyhow::Result<Engine> {
    require_data_dir(&config.data_dir)?;
    open_or_make(config)
}

/// Opens a data directory, making it if there is none.
pub(crate) fn open_or_make(config: Config) -> anyhow::Result<Engine> {
    let data_dir = config.data_dir.clone();
    let (opened_to, opened) = mpsc::channel::<()>();
    let message = format!("opening {}", data_dir.display());
    let spinner = std::thread::spawn(move || {
        if let Err(mpsc::RecvTimeoutError::Timeout) = opened.recv_timeout(SPINNER_AFTER) {
            let spinner = ProgressBar::new_spinner().with_message(message);
            spinner.enable_steady_tick(SPINNER_TICK);
            let _ = opened.recv();
            spinner.finish_and_clear();
        }
    });
    let engine = Engine::open(config);
    drop(opened_to);
    // A spinner that panicked has nothing to say about the engine.
    let _ = spinner.join();
    let engine = engine.map_err(|error| explain(error, &data_dir))?;
    let (chosen, commit) = (engine.backend(), engine.commit());
    tracing::info!(
        backend = %chosen.kind, reason = chosen.reason, commit = %commit.strategy, polls = commit.polls,
        data_dir = %data_dir.display(), "open"
    );
    Ok(engine)
}

/// Says what can be done about an engine that did not open.
fn explain(error: OpenError, data_dir: &Path) -> anyhow::Error {
    let hint = match &error {
        OpenError::Lock(thalweg::LockError::Held { .. }) => {
            Some("only one process at a time can open a data directory: end that one, or wait for it")
        }
        OpenError::NoSpace { .. } => {
            Some("make room, or make the directory with a smaller wal.file_bytes in the --config file")
        }
        OpenError::Backend(_) => Some("set threads.backend = \"auto\" to go on with blocking I/O"),
        _ => None,
    };
    let error = anyhow!(error).context(format!("can't open {}", data_dir.display()));
    match hint {
        Some(hint) => error.context(crate::errors::Hint(hint.to_owned())),
        None => error,
    }
}

/// The partition of that name, which must exist.
pub(crate) fn partition(engine: &Engine, name: &str) -> anyhow::Result<Partition> {
    engine.partition(name).map_err(|error| match error {
        ControlError::NoSuchPartition(_) => {
            anyhow!("there is no partition {name:?}").context(crate::errors::Hint(
                "`thalweg log list` shows what there is, `thalweg log create` makes one".into(),
            ))
        }
        other => anyhow!(other),
    })
}

/// The partition of that name, made now if it does not exist. That is said, as it may be a typo.
pub(crate) fn partition_or_make(engine: &Engine, name: &str) -> anyhow::Result<Partition> {
    match engine.partition(name) {
        Err(ControlError::NoSuchPartition(_)) => {
            let made = engine.create(name, Default::default())?;
            eprintln!("created partition {name:?}");
            Ok(made)
        }
        found => Ok(found?),
    }
}

/// The partition as it is now.
pub(crate) fn describe(engine: &Engine, partition: &Partition) -> anyhow::Result<PartitionInfo> {
    let info = partition.describe().wait();
    info.ok_or_else(|| match engine.ended() {
        Some(reason) => anyhow!(reason),
        None => anyhow!("partition {:?} does not exist any more", partition.name()),
    })
}
