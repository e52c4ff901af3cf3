//! The commands of `cds` support startup images.

use std::fs;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::image::{project, refusal};

/// `inspect`, `verify` and `stats` support images.
#[test]
fn tools_know_images() {
    let project = project("import json\nprint(json.dumps([1]))\n");
    let cds = |arguments: &[&str]| project.run([&["-m", "cds"], arguments].concat());
    let inspected = cds(&["inspect", "--top", "1", "app.cds.image"])
        .success()
        .stdout;
    let verified = cds(&["verify", "app.cds.image"]).success().stdout;
    let stats = cds(&["stats", "--archive", "app.cds", "app.py"]).success();
    let listed = cds(&["inspect", "--json", "app.cds.image"])
        .success()
        .stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["changed"], serde_json::json!([]));
    assert!(listed["names"].as_array().unwrap().contains(&"json".into()));
    assert_eq!(refusal(&stats.stderr), None, "{stats:?}");
    let later = SystemTime::now() + Duration::from_secs(10);
    fs::File::open(project.path("app.cds"))
        .unwrap()
        .set_modified(later)
        .unwrap();
    let changed = cds(&["verify", "app.cds.image"]);
    assert_eq!(changed.status, 1, "{changed:?}");
    let image = fs::read(project.path("app.cds.image")).unwrap();
    fs::write(project.path("app.cds.image"), &image[..image.len() - 1]).unwrap();
    let damaged = cds(&["inspect", "app.cds.image"]);
    assert_eq!(damaged.status, 1, "{damaged:?}");
    let said = [inspected, verified, changed.stdout, damaged.stderr].concat();
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::with_settings!({filters => vec![
        (r"\d+\.\d [KM]iB", "[size]"),
        (r"\d+ (region|package|file|other)", "[n] $1"),
        (r"compared +\d+", "compared [n]"),
        (r"made by( +)\S+", "made by$1[python]"),
        (r"&& \S+ -m", "&& [python] -m"),
        (r"/\S+/python3.13", "[python]"),
    ]}, { insta::assert_snapshot!(said); });
}
