//! Files that differ from what a dump has written: they are refused, or using them does no harm.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cpython_cds_tests::Project;

/// The number of rounds of the fuzzer; `CDS_FUZZ_ROUNDS` sets it.
fn rounds() -> String {
    std::env::var("CDS_FUZZ_ROUNDS").unwrap_or_else(|_| "20000".to_owned())
}

fn project() -> Project {
    let project = Project::new(&[
        (
            "app.py",
            "import re, shop.cart\nprint(shop.cart.total(), re.match('a+b', 'aab'))\n",
        ),
        (
            "shop/__init__.py",
            "NAMES = frozenset({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'})\n",
        ),
        (
            "shop/cart.py",
            "def total(x=(1, 'two', 3.0, b'4', 5j, None)):\n    \"\"\"Ünderstood.\"\"\"\n    return x, 2 ** 70, x[1] in {'two'}\n",
        ),
    ]);
    project.dump(["app.py"]);
    // Without the standard library's archive, this archive is small and has objects of all kinds.
    let dump = [
        "-X", "cds=off", "-m", "cds", "dump", "-q", "app.lst", "app.cds",
    ];
    project.run(dump).success();
    project
}

/// Accidental changes, and changes that no accident makes: in the header with a corrected checksum, and anywhere with a
/// modification time that tells nothing, so that the contents are trusted.
const MUTATIONS: &str = r#"
import _cds_archive, os, random, sys

data = open("app.cds", "rb").read()
header_bytes = int.from_bytes(data[12:16], "little")
sections = {s["name"]: s["extents"] for s in _cds_archive.inspect("app.cds")["sections"]}
used = bytearray(len(data))
used[:header_bytes] = b"\1" * header_bytes
for extents in sections.values():
    for offset, length in extents:
        used[offset:offset + length] = b"\1" * length
VALUES = [0, 1, 7, 8, 15, 16, 4095, 4096, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(data), len(data) + 1]

def word(choose):
    return choose.choice([choose.choice(VALUES), choose.getrandbits(64), choose.randrange(len(data))])

def anywhere(choose, broken, start=0, end=len(data)):
    for _ in range(choose.randrange(1, 5)):
        place = choose.randrange(start, end)
        match choose.randrange(4):
            case 0: broken[place] ^= 1 << choose.randrange(8)
            case 1: broken[place:place + 64] = choose.randbytes(len(broken[place:place + 64]))
            case 2: broken[place // 8 * 8:place // 8 * 8 + 8] = word(choose).to_bytes(8, "little")
            case 3: broken[place // 4 * 4:place // 4 * 4 + 4] = (word(choose) & 0xffffffff).to_bytes(4, "little")
    del broken[len(data):]

def pages_swapped(choose, broken):
    a, b = (choose.randrange(len(data) // 4096) * 4096 for _ in range(2))
    broken[a:a + 4096], broken[b:b + 4096] = broken[b:b + 4096], broken[a:a + 4096]

def truncated(choose, broken):
    del broken[choose.randrange(len(data)):]

def extended(choose, broken):
    broken += choose.randbytes(choose.randrange(1, 5000))

def in_header(choose, broken):
    anywhere(choose, broken, 24, header_bytes)
    make_right(broken)

def make_right(broken):
    "Gives the header its checksum."
    broken[16:24] = bytes(8)
    with open("header", "wb") as file: file.write(broken[:header_bytes])
    broken[16:24] = int(_cds_archive.hash_file("header"), 16).to_bytes(8, "little")

def in_tables(choose, broken):
    offset, length = sections["tables"][0]
    anywhere(choose, broken, offset, offset + length)

def in_relocations(choose, broken):
    offset, length = sections["relocations"][0]
    anywhere(choose, broken, offset, offset + length)

ACCIDENTS = [anywhere, anywhere, pages_swapped, truncated, extended, in_tables, in_relocations]
LIES = [in_header, in_header, in_tables, in_tables, anywhere]

def mutated(choose, mutations):
    broken = bytearray(data)
    choose.choice(mutations)(choose, broken)
    return broken

def write(broken, believed):
    # Another file each time: this one may be mapped.
    with open("broken.new", "wb") as file: file.write(broken)
    if believed: os.utime("broken.new", (1_700_000_000, 1_700_000_000))
    os.replace("broken.new", "broken.img")

def matters(broken):
    return len(broken) != len(data) or any(u and a != b for u, a, b in zip(used, data, broken))
"#;

#[test]
fn what_a_start_looks_at_is_refused_or_harmless() {
    let project = project();
    let fuzz = r#"
choose = random.Random(3)
assert _cds_archive.dry_run("app.cds") > 100
reasons, taken = set(), 0
for round in range(int(sys.argv[1])):
    believed = round % 2 == 1
    broken = mutated(choose, LIES if believed else ACCIDENTS)
    write(broken, believed)
    try:
        _cds_archive.dry_run("broken.img")
    except (OSError, ValueError) as error:
        assert str(error)
        reasons.add(type(error).__name__)
    else:
        taken += 1
        if not believed and matters(broken):
            os.rename("broken.img", "not-noticed.img")
            raise SystemExit(f"round {round}: a change was not noticed")
# A panic would have ended all use of archives.
assert _cds_archive.dry_run("app.cds") > 100
print(taken)
"#;
    let outcome = project.run([
        "-X",
        "cds=off",
        "-c",
        &format!("{MUTATIONS}{fuzz}"),
        &rounds(),
    ]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    // Some changed files were accepted, so the look-ups were tested, too.
    let taken: u32 = outcome.stdout.trim().parse().unwrap();
    assert!(taken > 100, "{taken}");
}

/// Whole programs: each accidental change is reported in one line, and the program has the same outcome as without an
/// archive.
#[test]
fn programs_do_the_same_with_bad_archives() {
    let project = project();
    let expected = project.run(["-X", "cds=off", "app.py"]).success();
    let fuzz = r#"
import subprocess
choose = random.Random(4)
for round in range(150):
    broken = mutated(choose, ACCIDENTS)
    write(broken, False)
    command = [sys.executable, "-X", "cds=broken.img", "app.py"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, sys.argv[1]), (round, run)
    if matters(broken):
        assert run.stderr.startswith("cds: broken.img is not used: ") and run.stderr.count("\n") == 1, run
    else:
        assert run.stderr == "", run
"#;
    let outcome = project.run(["-c", &format!("{MUTATIONS}{fuzz}"), &expected.stdout]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

/// A plain copy has its own modification time, which tells nothing about its contents. So the contents are verified.
/// Then the copy gets a time that says so, and the next start need not verify it.
#[test]
fn a_copy_with_another_time_is_verified_used_and_sealed() {
    let project = project();
    let nanoseconds = |name: &str| project.path(name).metadata().unwrap().mtime_nsec();
    let sealed = nanoseconds("app.cds");
    fs::copy(project.path("app.cds"), project.path("copy.img")).unwrap();
    assert_ne!(nanoseconds("copy.img"), sealed);
    for archive in ["app.cds", "copy.img"] {
        let option = format!("cds={archive}");
        let options = ["-X", &option, "-X", "cds_stats", "app.py"];
        let outcome = project.run(options).success();
        assert!(
            outcome.stderr.contains("from elsewhere: 0\n"),
            "{archive}: {}",
            outcome.stderr
        );
        assert_eq!(nanoseconds(archive), sealed, "{archive}");
    }
}

#[test]
fn a_damaged_copy_is_not_sealed() {
    let project = project();
    let mut bytes = fs::read(project.path("app.cds")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(project.path("copy.img"), bytes).unwrap();
    let before = project.path("copy.img").metadata().unwrap();
    let outcome = project.run(["-X", "cds=copy.img", "app.py"]).success();
    assert!(outcome.stderr.contains("copy.img"), "{outcome:?}");
    let after = project.path("copy.img").metadata().unwrap();
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
}
