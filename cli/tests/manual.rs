//! The examples of `docs/manual.md`, run as they stand there.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// A command line of the manual and the lines it should print.
struct Example {
    line: String,
    want: Vec<String>,
}

fn examples(manual: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in manual.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => examples.push(Example { line: command.to_owned(), want: Vec::new() }),
                None => {
                    let example = examples.last_mut().expect("output stands behind its command");
                    example.want.push(line.to_owned());
                }
            },
        }
    }
    examples
}

/// Whether `got` is what `want` says; `...` at the end of a line, or as a line, stands for anything.
fn matches(want: &[String], got: &[&str]) -> bool {
    let Some((first, rest)) = want.split_first() else { return got.is_empty() };
    if first == "..." {
        return (0..=got.len()).any(|skip| matches(rest, &got[skip..]));
    }
    let Some((line, behind)) = got.split_first() else { return false };
    let same = first.strip_suffix("...").map_or(line == first, |start| line.starts_with(start));
    same && matches(rest, behind)
}

#[test]
fn the_examples_of_the_manual_print_what_it_says() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manual.md");
    let manual = std::fs::read_to_string(manual).expect("the manual is there");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let thalweg = Path::new(env!("CARGO_BIN_EXE_thalweg"));
    let bin = thalweg.parent().expect("the binary is in a directory");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let examples = examples(&manual);
    assert!(examples.len() > 15, "{} examples", examples.len());
    for example in examples {
        let mut shell = Command::new("sh");
        shell.args(["-c", &example.line]).current_dir(dir.path()).env("PATH", &path);
        shell.env_remove("THALWEG_DATA_DIR").env_remove("THALWEG_CONFIG");
        let output = shell.output().expect("a shell");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let got: Vec<_> = text.lines().collect();
        assert!(matches(&example.want, &got), "$ {}\n{text}", example.line);
    }
}
