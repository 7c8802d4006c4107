//! `thalweg bench`: what it writes, and what it says of two runs.

use crate::home::Home;

#[test]
fn a_run_leaves_its_reports_and_nothing_else_and_can_be_compared() {
    let home = Home::new();
    std::fs::create_dir(home.path("device")).unwrap();
    let ran = home.run("bench tail --quick --rounds 1 --on device --report one");
    ran.succeeds();
    for words in
        ["A quick run", "from ack to a spinning reader", "targets reached", "report: one/report.html"]
    {
        assert!(ran.text().contains(words), "{words:?} is not in {}", ran.text());
    }
    assert_eq!(std::fs::read_dir(home.path("device")).unwrap().count(), 0, "the folder is removed");
    let page = std::fs::read_to_string(home.path("one/report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("from ack to a spinning reader"));
    home.run("bench compare one one/report.json").succeeds();
    let found = home.run("bench compare one one --json").json().remove(0);
    assert_eq!(found["regressions"], serde_json::json!([]), "{found}");
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let home = Home::new();
    home.run("bench append --on nowhere").fails(2, &["--on=nowhere", "no such directory"]);
    home.run("bench append --rounds 0").fails(2, &["--rounds=0", "at least one round"]);
    home.run("bench").fails(2, &["Usage"]);
    home.write("report.json", "{\"version\": 99}");
    home.run("bench compare report.json report.json").fails(2, &["report.json", "version", "99"]);
    home.run("bench compare here there").fails(2, &["here", "No such file"]);
}
