//! Every command that README and the documents show works.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cpython_cds_tests::document::{blocks, indented_commands};
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::{Outcome, Project, clean, python, repository, settle};

/// A shell in a directory, with `bin` first in PATH.
fn shell(directory: &Path, bin: &Path, commands: &str) -> Outcome {
    let mut command = Command::new("sh");
    clean(&mut command);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", bin.display()))
        // Commands change the settings of the user.
        .env("HOME", directory)
        .args(["-eu", "-c", commands]);
    Outcome::of(&mut command)
}

fn guide() -> PathBuf {
    repository().join("docs/guide.md")
}

#[test]
fn the_guide_works_from_start_to_end() {
    let project = Project::new(&[("bin/.keep", "")]);
    symlink(
        fs::canonicalize(python()).unwrap(),
        project.path("bin/python"),
    )
    .unwrap();
    let mut ran = 0;
    for block in blocks(&guide()).unwrap() {
        match block.info.split_once(' ') {
            Some(("python", file)) => project.write(file, &block.text),
            None if block.info == "sh" => {
                let outcome = shell(&project.path(""), &project.path("bin"), &block.text);
                assert_eq!(outcome.status, 0, "{}\n{outcome:?}", block.text);
                // No archive is refused.
                assert!(!outcome.stderr.contains("is not used"), "{outcome:?}");
                ran += 1;
            }
            _ => {}
        }
    }
    assert_eq!(ran, 7);
    let picture = fs::read_to_string(project.path("archives/workers.svg")).unwrap();
    assert!(picture.starts_with("<svg "));
    let stats = "PYTHON_CDS=archives/workers.cds PYTHON_CDS_STATS=1 python worker.py count total";
    let outcome = shell(&project.path(""), &project.path("bin"), stats);
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_guide_works_for_a_django_project() {
    let environment = Environment::new(&python()).unwrap();
    let project = Project::new(&[]);
    let bin = environment.directory().join("venv/bin");
    for block in blocks(&guide()).unwrap() {
        if block.info == "sh django" {
            let outcome = shell(&project.path(""), &bin, &block.text);
            assert_eq!(outcome.status, 0, "{}\n{outcome:?}", block.text);
        }
    }
    let command = "python -X cds=archives/shop.cds -X cds_stats manage.py check";
    let outcome = shell(&project.path(""), &bin, command);
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n"),
        "{}",
        outcome.stderr
    );
}

/// Does what the container image of the guide does when it is built and when it is run.
#[test]
fn the_guide_works_for_a_container_image() {
    let project = Project::new(&[
        ("main.py", "import greeting\nprint(greeting.TEXT)\n"),
        ("greeting.py", "TEXT = 'hello'\n"),
        ("bin/.keep", ""),
    ]);
    symlink(
        fs::canonicalize(python()).unwrap(),
        project.path("bin/python"),
    )
    .unwrap();
    let blocks = blocks(&guide()).unwrap();
    let dockerfile = blocks
        .iter()
        .find(|block| block.info == "dockerfile")
        .unwrap();
    let mut ran = Vec::new();
    let mut environment = String::new();
    for line in dockerfile.text.lines() {
        let (instruction, rest) = line.split_once(' ').unwrap();
        let rest = rest.replace("/srv/app/", "");
        match instruction {
            "RUN" => ran.push(rest),
            "ENV" => environment = rest,
            "CMD" => {
                let words: Vec<String> = serde_json::from_str(&rest).unwrap();
                ran.push(format!(
                    "{environment} PYTHON_CDS_STATS=1 {}",
                    words.join(" ")
                ));
            }
            "FROM" | "COPY" | "WORKDIR" | "USER" => {}
            _ => panic!("{line}"),
        }
    }
    let outcome = shell(&project.path(""), &project.path("bin"), &ran.join("\n")).success();
    assert!(
        outcome.stderr.contains("from elsewhere: 0\n"),
        "{ran:?}: {}",
        outcome.stderr
    );
    assert!(outcome.stdout.ends_with("hello\n"), "{}", outcome.stdout);
}

/// Asserts that the command exists. Other tests check what it does.
fn cargo_knows(command: &str) {
    let arguments = command.strip_prefix("cargo ").unwrap_or(command);
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(repository())
        .args(arguments.split(' ').chain(["--help"]));
    Outcome::of(&mut cargo).success();
}

#[test]
fn the_commands_of_the_other_documents_exist() {
    let documents = [
        "docs/benchmarks.md",
        "docs/architecture.md",
        "docs/packaging.md",
        "docs/releasing.md",
        "docs/security.md",
        "docs/testing.md",
    ];
    let mut found = 0;
    for document in documents {
        for command in indented_commands(&repository().join(document)).unwrap() {
            assert!(command.starts_with("cargo "), "{document}: {command}");
            cargo_knows(&command);
            found += 1;
        }
    }
    assert!(found >= 6, "{found}");
}

#[test]
fn the_commands_for_the_cache_work() {
    let project = Project::new(&[("app.py", "import json\n")]);
    project
        .run(["-m", "venv", "--without-pip", "venv"])
        .success();
    let commands = indented_commands(&repository().join("docs/cache.md")).unwrap();
    assert!(commands.len() >= 6, "{commands:?}");
    for command in commands {
        let run = |command: &str| shell(&project.path(""), &project.path("venv/bin"), command);
        run("python app.py").success();
        settle(&project);
        let outcome = run(&command);
        assert_eq!((outcome.status, &*outcome.stderr), (0, ""), "{command}");
    }
}

#[test]
fn the_commands_of_the_readme_work() {
    let project = Project::new(&[("app.py", "import helper\n"), ("helper.py", "")]);
    symlink(fs::canonicalize(python()).unwrap(), project.path("python")).unwrap();
    let commands = indented_commands(&repository().join("README.md")).unwrap();
    assert!(commands.len() > 8, "{commands:?}");
    for command in commands {
        if command.starts_with("cargo ") {
            cargo_knows(&command);
            continue;
        }
        let outcome = shell(&project.path(""), &project.path(""), &command);
        assert_eq!(outcome.status, 0, "{command}\n{outcome:?}");
        assert!(
            !outcome.stderr.contains("is not used"),
            "{command}\n{outcome:?}"
        );
    }
}
