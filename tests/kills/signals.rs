//! An owner that is stopped and goes on (FAULTS P7), and what others are told meanwhile (P6).

use std::time::Duration;

use thalweg_io::DirLock;
use thalweg_tests::scoreboard;

use crate::cycle::Cycles;
use crate::process::Role;

const ROUNDS: u64 = 4;

/// Stops an owner in the middle of its load. In every other round it goes on before it is killed.
fn stopped(backend: &str) -> Result<(), String> {
    let mut log = Cycles::new(backend, 7);
    for round in 0..ROUNDS {
        let mut appending = log.append_below(&[]);
        if !appending.acknowledges(10) {
            return Err(format!("it ended by itself: {:?}", appending.end()));
        }
        appending.signal("STOP");
        let refused = DirLock::acquire(&log.dir(), Duration::from_millis(300))
            .map(drop)
            .map_err(|error| error.to_string());
        let words = refused.err().ok_or("a stopped owner's directory was given away")?;
        if !words.contains(&format!("process {}", appending.id())) || words.contains("has ended") {
            return Err(format!("{} is stopped, and the lock says: {words}", appending.id()));
        }
        if round % 2 == 0 {
            appending.signal("CONT");
            if !appending.acknowledges(10) {
                return Err(format!("it did not go on: {:?}", appending.end()));
            }
        }
        let dead = appending.kill();
        log.hear(&dead.said())?;
        log.check()?;
    }
    Ok(())
}

#[test]
fn a_stopped_owner_keeps_its_directory_and_goes_on() {
    for backend in ["uring", "blocking"] {
        let found = stopped(backend);
        scoreboard::count("stopped and continued", &[("stops", ROUNDS)], u64::from(found.is_err()));
        found.unwrap_or_else(|why| panic!("{backend}: {why}"));
    }
}

#[test]
fn a_second_owner_waits_and_then_says_who_has_it() {
    let mut log = Cycles::new("auto", 8);
    let mut first = log.append_below(&[]);
    assert!(first.acknowledges(1));
    let mut second = log.start(Role::Look);
    assert!(second.until("opened").is_none(), "two owners of one directory");
    let (_, status, complaint) = second.end();
    assert!(!status.success() && complaint.contains(&format!("process {}", first.id())), "{complaint}");
    assert!(first.acknowledges(10), "the first was disturbed");
    log.hear(&first.kill().said()).expect("nothing is wrong");
    log.check().expect("all that was acknowledged");
}
