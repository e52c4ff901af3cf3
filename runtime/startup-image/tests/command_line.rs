//! The command line is parsed as the interpreter parses it.

use proptest::prelude::*;
use startup_image::command_line::{Choice, CommandLine, Program};
use startup_image::file_name;

fn parse(arguments: &[&str]) -> Option<CommandLine> {
    let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
    CommandLine::parse(&arguments)
}

/// The program, and the index of its first argument.
fn program(arguments: &[&str]) -> Option<(Program, usize)> {
    parse(arguments).map(|line| (line.program, line.rest))
}

#[test]
fn programs() {
    let text = |text: &str| text.as_bytes().to_vec();
    let command = |code| Program::Command(text(code));
    assert_eq!(program(&["python"]), Some((Program::Stdin, 1)));
    assert_eq!(program(&["python", "-", "a"]), Some((Program::Stdin, 1)));
    assert_eq!(
        program(&["python", "-c", "pass", "-O"]),
        Some((command("pass"), 3))
    );
    assert_eq!(program(&["python", "-Occode"]), Some((command("code"), 2)));
    assert_eq!(
        program(&["python", "-Xdev", "-m", "a.b", "c"]),
        Some((Program::Module(text("a.b")), 4))
    );
    assert_eq!(
        program(&["python", "-W", "error", "--", "a.py", "b"]),
        Some((Program::Script(text("a.py")), 4))
    );
    for left_to_others in [
        ["python", "-i"],
        ["python", "--help"],
        ["python", "-x"],
        ["python", "-c"],
        ["python", "-v"],
        ["python", "-Ximporttime"],
        ["python", "-Xtracemalloc=5"],
    ] {
        assert_eq!(program(&left_to_others), None, "{left_to_others:?}");
    }
}

#[test]
fn options_about_archives_are_not_of_the_interpreter() {
    let line = parse(&[
        "python",
        "-XXcds",
        "-X",
        "cds=a",
        "-Xcds=b",
        "-X",
        "cds_stats",
        "-Eu",
    ])
    .unwrap();
    assert_eq!(line.options, [&b"-XXcds"[..], b"-E", b"-u"]);
    assert_eq!(
        (line.cds("cds"), line.cds("cds_stats")),
        (Some(&b"b"[..]), Some(&b""[..]))
    );
}

#[test]
fn options_and_variables_choose_the_image() {
    #[track_caller]
    fn check(arguments: &[&str], variables: &[(&str, &'static str)], expected: Choice) {
        let line = parse(arguments).unwrap();
        let choice = line.choice(|name| {
            let found = variables.iter().find(|(known, _)| known.as_bytes() == name);
            found.map(|(_, value)| value.as_bytes())
        });
        assert_eq!(choice, expected);
    }
    let variable = [("PYTHON_CDS", "v")];
    check(&["python", "-Xcds=a"], &variable, Choice::Of(b"a"));
    check(&["python"], &variable, Choice::Of(b"v"));
    check(&["python", "-E"], &variable, Choice::Unset);
    check(&["python", "-I", "-Xcds=a"], &variable, Choice::Of(b"a"));
    check(&["python", "-Xcds=off"], &variable, Choice::Nothing);
    check(&["python", "-Xcds_auto=a,image"], &[], Choice::Of(b"a"));
    check(&["python", "-Xcds_auto=a"], &[], Choice::Nothing);
    let automatic = [("PYTHON_CDS_AUTO", "v,image")];
    check(&["python"], &automatic, Choice::Of(b"v"));
    let both = ["python", "-Xcds=b", "-Xcds_auto=a,image"];
    check(&both, &[], Choice::Of(b"b"));
    check(&["python", "-Xcds=auto"], &variable, Choice::OfCache);
    check(&["python"], &[("PYTHON_CDS", "auto")], Choice::OfCache);
    check(&["python"], &[("PYTHON_CDS", "")], Choice::Unset);
}

#[test]
fn images_are_called_after_their_archives() {
    for (archive, image) in [
        ("app.cds", "app.cds.image"),
        ("lib/app", "lib/app.image"),
        ("app.img", "app.img.startup"),
    ] {
        assert_eq!(file_name::of_archive(archive.as_bytes()), image.as_bytes());
        assert_eq!(
            file_name::archive_of(image.as_bytes()),
            Some(archive.as_bytes())
        );
    }
    for other in ["app.cds", "app.cds.startup", "app.img.image"] {
        assert_eq!(file_name::archive_of(other.as_bytes()), None);
    }
}

proptest! {
    #[test]
    fn anything_is_divided_or_left(arguments in prop::collection::vec("(-{0,2}[a-zA-Z=,\u{e9}]{0,4})", 0..6)) {
        let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(line) = parse(&texts) {
            prop_assert!(line.rest <= texts.len());
        }
    }
}

/// A script with an absolute path is the same program in each directory. Other programs depend on the working
/// directory.
#[test]
fn programs_are_told_apart() {
    let identities = |arguments: &[&str]| {
        let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
        let program = CommandLine::parse(&arguments).unwrap().program;
        ["/here", "/there"].map(|directory| program.identity(directory.as_bytes()))
    };
    let [here, there] = identities(&["python", "/srv/app.py"]);
    assert_eq!(here, there);
    assert!(here.is_some());
    let mut known = vec![here];
    for arguments in [
        &["app.py"][..],
        &["-m", "app"],
        &["-c", "app"],
        &["-m", "app.py"],
    ] {
        for identity in identities(&[&["python"], arguments].concat()) {
            assert!(
                identity.is_some() && !known.contains(&identity),
                "{arguments:?}"
            );
            known.push(identity);
        }
    }
    assert_eq!(identities(&["python"]), [None, None]);
    assert_eq!(identities(&["python", "-"]), [None, None]);
}
