//! Which entry of the cache a process uses.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use startup_image::cache;
use startup_image::command_line::CommandLine;
use startup_image::start::Start;

const BUILD: &str = "0123456789abcdef0123456789abcdef01234567";

/// The entry of the program of a process with these arguments and variables.
fn entry(arguments: &[&str], variables: &[(&str, &str)]) -> Option<String> {
    let text = |text: String| CString::new(text).unwrap();
    let owned: Vec<CString> = arguments.iter().map(|it| text((*it).to_owned())).collect();
    let variables = variables.iter();
    let variables: Vec<CString> = variables.map(|(n, v)| text(format!("{n}={v}"))).collect();
    let start = Start {
        arguments: owned.iter().map(CString::as_c_str).collect::<Vec<&CStr>>(),
        environment: variables.iter().map(CString::as_c_str).collect(),
        auxiliary: &[],
    };
    let arguments: Vec<&[u8]> = owned.iter().map(|text| text.to_bytes()).collect();
    let line = CommandLine::parse(&arguments)?;
    let entries = cache::entries(&start, &line, BUILD)?;
    entries.program.map(|path| String::from_utf8(path).unwrap())
}

/// A home directory of this user.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.path().display())
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn entry(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Option<String> {
        let home = self.0.path().to_str().unwrap();
        entry(arguments, &[&[("HOME", home)], variables].concat())
    }
}

const PYTHON: &str = "/usr/bin/python";

#[test]
fn the_cache_is_off_unless_somebody_turns_it_on() {
    let home = Home::new();
    let program = [PYTHON, "-c", "pass"];
    assert_eq!(home.entry(&program, &[]), None);
    let directory = home.path(&format!(".cache/cpython-cds/{BUILD}/"));
    let auto = [("PYTHON_CDS", "auto")];
    let found = home.entry(&program, &auto).unwrap();
    assert!(found.starts_with(&directory), "{found}");
    assert_eq!(found.len(), directory.len() + 32);
    let with_option = home.entry(&[PYTHON, "-Xcds=auto", "-c", "pass"], &[]);
    assert_eq!(with_option, Some(found.clone()));

    home.write(".config/cpython-cds/enabled", "");
    assert_eq!(home.entry(&program, &[]), Some(found));
    for off in [
        &[PYTHON, "-I", "-c", "pass"][..],
        &[PYTHON, "-Xcds=off", "-c", "pass"],
        &[PYTHON, "-Xcds=app.cds", "-c", "pass"],
        &[PYTHON, "-Xcds_auto=app.cds,image", "-c", "pass"],
        &[PYTHON, "-i", "-c", "pass"],
        &[PYTHON],
    ] {
        assert_eq!(home.entry(off, &[]), None, "{off:?}");
    }
    assert_eq!(home.entry(&program, &[("PYTHON_CDS", "off")]), None);
    assert_eq!(home.entry(&program, &[("PYCDSMODE", "SHARE")]), None);
}

#[test]
fn a_virtual_environment_has_its_own_setting() {
    let home = Home::new();
    let python = home.path("venv/bin/python");
    let program = [python.as_str(), "app.py"];
    home.write("venv/pyvenv.cfg", "home = /usr/bin\ncds = auto\n");
    assert!(home.entry(&program, &[]).is_some());
    home.write(".config/cpython-cds/enabled", "");
    home.write("venv/pyvenv.cfg", "home = /usr/bin\ncds=off");
    assert_eq!(home.entry(&program, &[]), None);
    home.write("venv/pyvenv.cfg", "home = /usr/bin\nprompt = cds\n");
    assert!(home.entry(&program, &[]).is_some());
}

#[test]
fn programs_environments_options_and_variables_have_entries_of_their_own() {
    let home = Home::new();
    let entry = |arguments: &[&str], variables: &[(&str, &str)]| {
        let auto = [("PYTHON_CDS", "auto")];
        home.entry(arguments, &[&auto, variables].concat()).unwrap()
    };
    let own = entry(&[PYTHON, "/srv/app.py"], &[]);
    for (arguments, variables) in [
        (&[PYTHON, "/srv/other.py"][..], &[][..]),
        (&[PYTHON, "-m", "/srv/app.py"], &[]),
        (&[PYTHON, "-O", "/srv/app.py"], &[]),
        (&["/venv/bin/python", "/srv/app.py"], &[]),
        (&[PYTHON, "/srv/app.py"], &[("PYTHONPATH", "/lib")]),
    ] {
        assert_ne!(
            entry(arguments, variables),
            own,
            "{arguments:?} {variables:?}"
        );
    }
    for (arguments, variables) in [
        (&[PYTHON, "/srv/app.py", "argument"][..], &[][..]),
        (
            &[PYTHON, "/srv/app.py"],
            &[("LANG", "C"), ("PYTHON_CDS_STATS", "1")],
        ),
    ] {
        assert_eq!(
            entry(arguments, variables),
            own,
            "{arguments:?} {variables:?}"
        );
    }
    // A relative path leads to other files in each directory, and is another program.
    assert_ne!(entry(&[PYTHON, "srv/app.py"], &[]), own);
}

#[test]
fn variables_choose_the_directory() {
    let home = Home::new();
    let program = [PYTHON, "-Xcds=auto", "-c", "pass"];
    let starts = |variables: &[(&str, &str)], with: &str| {
        let found = home.entry(&program, variables).unwrap();
        assert!(found.starts_with(with), "{found}");
    };
    let xdg = home.path("xdg");
    starts(&[("XDG_CACHE_HOME", &xdg)], &format!("{xdg}/cpython-cds/"));
    starts(
        &[("XDG_CACHE_HOME", "relative")],
        &home.path(".cache/cpython-cds/"),
    );
    let own = home.path("own");
    let both = [("XDG_CACHE_HOME", xdg.as_str()), ("PYTHON_CDS_CACHE", &own)];
    starts(&both, &format!("{own}/{BUILD}/"));
    assert_eq!(
        home.entry(&program, &[("PYTHON_CDS_CACHE", "relative")]),
        None
    );
    assert_eq!(entry(&program, &[]), None, "there is no HOME");
}

#[test]
fn directories_that_others_can_write_to_are_not_used() {
    let home = Home::new();
    let program = [PYTHON, "-Xcds=auto", "-c", "pass"];
    let cache = home.path(".cache/cpython-cds");
    fs::create_dir_all(&cache).unwrap();
    assert!(home.entry(&program, &[]).is_some());
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(home.entry(&program, &[]), None);
    fs::remove_dir(&cache).unwrap();
    fs::write(&cache, "").unwrap();
    assert_eq!(home.entry(&program, &[]), None);
}

#[test]
fn an_archive_leads_back_to_its_entry() {
    let archive = cache::archive(b"/cache/build/entry", 2);
    assert_eq!(
        archive,
        Path::new("/cache/build/entry/2.cds").as_os_str().as_bytes()
    );
    assert_eq!(cache::entry_of(&archive), Some(&b"/cache/build/entry"[..]));
}
