//! The memory of a restored process: memory that was anonymous when the image was taken is anonymous again. If the
//! kernel refuses a part of the memory, the program starts plainly.

use std::process::Command;

use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, compile, python, skip};

/// A project with a module `made`, and an image that has imported it.
fn with_image(made: &str, program: &str) -> Project {
    let project = Project::new(&[
        ("path/made.py", made),
        ("app.py", program),
        ("app.lst", "made\n"),
    ]);
    // The first import writes a .pyc file, which changes the directory that is in the key.
    let mut first = project.command(["-X", "cds=off", "-c", "import made"]);
    Outcome::of(first.env("PYTHONPATH", project.path("path"))).success();
    let mut dump = project.command(["-m", "cds", "dump", "-q", "--path"]);
    dump.arg(project.path("path"))
        .args(["--image", "app.lst", "app.cds"]);
    Outcome::of(&mut dump).success();
    let stats = ["-X", "cds=app.cds", "-X", "cds_stats", "-c", ""];
    let report = project.run(stats).stderr;
    assert!(report.contains("started from app.cds.image"), "{report}");
    project
}

/// Runs the program plainly and restored, and compares the outcomes. A process that was not restored fails, because it
/// cannot import the module.
#[track_caller]
fn assert_same(made: &str, program: &str) {
    let project = with_image(made, &format!("import made\n{program}"));
    let mut plain = project.command(["-X", "cds=off", "app.py"]);
    let plain = Outcome::of(plain.env("PYTHONPATH", project.path("path"))).success();
    assert_eq!(project.run(["-X", "cds=app.cds", "app.py"]), plain);
}

/// malloc() maps large blocks separately and grows them with mremap(2).
#[test]
fn large_blocks_of_an_image_can_grow() {
    assert_same(
        "
text = bytearray(b'#' * 200_000)
numbers = list(range(300_000))
table = {n: n for n in range(50_000)}
",
        "
made.text += b'x' * 50_000_000
made.numbers.extend(range(5_000_000))
made.table.update((n, n) for n in range(500_000))
print(len(made.text), set(made.text), sum(made.numbers), len(made.table), made.table[499_999])
made.text.clear(); made.numbers.clear(); made.table.clear()
print(len(bytes(50_000_000).strip(b'\\0')))
",
    );
}

const MAPPED: &str = "
import ctypes, mmap
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
block = mmap.mmap(-1, 1 << 20, flags=PRIVATE)
block[:] = b'S' * len(block)
huge = mmap.mmap(-1, 8 << 20, flags=PRIVATE)
huge.madvise(mmap.MADV_HUGEPAGE)
huge[:100] = b'h' * 100
libc = ctypes.CDLL(None, use_errno=True)
libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
chunk = libc.malloc(1_000_000)
ctypes.memset(chunk, 7, 1_000_000)
def address(block): return ctypes.addressof(ctypes.c_char.from_buffer(block))
def flags(at):
    for line in open('/proc/self/smaps'):
        if '-' in line.split()[0]:
            start, end = (int(n, 16) for n in line.split()[0].split('-'))
            inside, name = start <= at < end, line.split()[5:]
        elif inside and line.startswith('VmFlags'):
            return name, line.split()[1:]
";

/// The C library has such memory with glibc 2.41 (Debian 13).
#[test]
fn memory_that_the_kernel_may_drop_is_such_memory_again() {
    assert_same(
        &format!(
            "{MAPPED}
DROPPABLE = 0x08
try: droppable = mmap.mmap(-1, 1 << 16, flags=DROPPABLE | mmap.MAP_ANONYMOUS)
except OSError: droppable = None  # Linux before 6.11
"
        ),
        "
import os
block = made.droppable
if block:
    print(made.flags(made.address(block)), set(block))
    block[:] = b'd' * len(block)
    print(set(block))
    child = os.fork()
    if not child: os._exit(set(block) != {0})
    print('a fork sets it to zero:', os.waitpid(child, 0)[1])
",
    );
}

/// Allocators rely on what madvise(2) and mremap(2) do with anonymous memory.
#[test]
fn memory_that_was_anonymous_is_anonymous() {
    assert_same(
        MAPPED,
        "
import ctypes, mmap
def tried(what):
    try: return what()
    except OSError as error: return error
WIPEONFORK, COLD, PAGEOUT = 18, 20, 21
print(made.flags(made.address(made.block)), made.flags(made.address(made.huge)))
for advice in (mmap.MADV_FREE, WIPEONFORK, COLD, PAGEOUT, mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK, mmap.MADV_DOFORK, mmap.MADV_MERGEABLE):
    print(advice, tried(lambda: made.block.madvise(advice)))
print(made.libc.mlock(ctypes.c_void_p(made.address(made.block)), 4096))
print(made.flags(made.address(made.block)))
made.libc.munlock(ctypes.c_void_p(made.address(made.block)), 4096)
made.block.madvise(mmap.MADV_DONTNEED)
print(set(made.block), made.huge[99], made.huge[100])
",
    );
    assert_same(
        MAPPED,
        "
made.block.resize(1 << 21)
print(set(made.block[:1 << 20]), set(made.block[1 << 20:]))
made.chunk = made.libc.realloc(made.chunk, 100_000_000)
print(set(bytes((made.ctypes.c_char * 1_000_000).from_address(made.chunk))))
made.ctypes.memset(made.chunk, 8, 100_000_000)
",
    );
}

/// Fills a part of the C library's heap with blocks of many sizes, and with no immortal objects between them.
const SMALL_BLOCKS: &str = "
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.aligned_alloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.aligned_alloc.argtypes = [ctypes.c_size_t], [ctypes.c_size_t] * 2
libc.free.argtypes = [ctypes.c_void_p]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
M_MMAP_THRESHOLD, SIZE = -3, 100_000
# A block of that size is made of what is free in the heap, if it is there.
libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)
def filled(block, size):
    ctypes.memset(block, ord('S'), size)
    return block
pages = [filled(libc.aligned_alloc(4096, 4096), 4096) for _ in range(20)]
blocks = [filled(libc.malloc(size), size) for _ in range(60) for size in (24, 300, 1500, 4000, 9000)]
objects = [bytearray(b'S' * size) for _ in range(60) for size in (600, 1500, 4000, 9000)]
def forget(block, size):
    first, last = -(-block // 4096) * 4096, (block + size) // 4096 * 4096
    answer = libc.madvise(first, last - first, 4)
    return answer, set(ctypes.string_at(first, last - first))
";

/// The program may give advice that the pages of a large block are not needed. The block may consist of small blocks
/// that imports have allocated and the program has freed.
#[test]
fn freed_blocks_of_an_image_become_anonymous_memory() {
    assert_same(
        SMALL_BLOCKS,
        "
libc, size = made.libc, made.SIZE
print([made.forget(page, 4096) for page in made.pages])
low, high = min(made.blocks), max(made.blocks)
for block in made.blocks: libc.free(block)
made.objects.clear()
large = [made.filled(libc.malloc(size), size) for _ in range(20)]
print(any(low <= block < high for block in large))
print([made.forget(block, size) for block in large])
",
    );
}

const JIT: &str = "
import ctypes, mmap
RETURN_42 = b'\\xb8\\x2a\\x00\\x00\\x00\\xc3'
def function(protection, last):
    block = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=protection)
    block[:6] = RETURN_42
    at = ctypes.addressof(ctypes.c_char.from_buffer(block))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(at), 4096, last) == 0
    return block, ctypes.CFUNCTYPE(ctypes.c_int)(at)
writable = function(7, 7)
sealed = function(3, 5)
";

const CALL_JIT: &str = "
import os, sys
print(made.writable[1](), made.sealed[1]())
try: made.sealed[0][0] = 0
except BaseException as error: print(error)
";

/// Code that imports have generated (by a just-in-time compiler) is executable, even if the image is on a file system
/// that is mounted with `noexec`.
#[test]
fn generated_code_is_executable() {
    let calls = CALL_JIT.lines().take(3).collect::<Vec<_>>().join("\n");
    assert_same(JIT, &calls);
    let project = with_image(JIT, &format!("import made\n{calls}"));
    let mut mount = Command::new("unshare");
    clean(&mut mount);
    let script = "
mkdir noexec && mount -t tmpfs -o noexec,size=300m none noexec || exit 77
cp -p app.cds app.cds.image noexec && \"$0\" -X cds=noexec/app.cds app.py";
    mount
        .current_dir(project.path(""))
        .args(["-m", "sh", "-c", script])
        .arg(python());
    let outcome = Outcome::of(&mut mount);
    if outcome.status == 77 || outcome.stderr.starts_with("unshare") {
        skip!("nothing can be mounted here: {}", outcome.stderr);
    }
    assert_eq!(outcome.success().stdout, "42 42\n");
}

/// If memory must not become executable (prctl(2), `PR_SET_MDWE`), the program starts plainly.
#[test]
fn an_image_is_left_alone_where_memory_must_not_become_executable() {
    const DENY: &str = "
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0: sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
";
    let project = with_image(JIT, "print('started')");
    let python = python();
    let program = python.to_string_lossy();
    let run = |option: &str| {
        project.run([
            "-X", "cds=off", "-c", DENY, &*program, "-X", option, "app.py",
        ])
    };
    let plain = run("cds=off");
    if plain.status == 77 {
        skip!("the kernel does not know PR_SET_MDWE");
    }
    assert_eq!(plain.stdout, "started\n");
    assert_eq!(run("cds=app.cds").stdout, plain.stdout);
}

/// With a filter that refuses any single system call, a program that works without an image also works with one.
#[test]
fn no_refused_system_call_ends_a_program() {
    const REFUSER: &str = include_str!("refuser.c");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let refuser = compile(&directory, "refuser", REFUSER, &[]);
    let program = "import json, subprocess\nprint(json.dumps([1]), len(bytearray(1 << 20)))\n";
    let project = with_image(
        "import json, subprocess\nblock = bytearray(1 << 20)",
        program,
    );
    let run = |option: &str, call: i32, error: i32| {
        let mut command = Command::new(&refuser);
        clean(&mut command);
        command.current_dir(project.path(""));
        command.args([call.to_string(), error.to_string()]);
        command.arg(python()).args(["-X", option, "app.py"]);
        let outcome = Outcome::of(&mut command);
        (outcome.status, outcome.stdout)
    };
    const EPERM: i32 = 1;
    const ENOSYS: i32 = 38;
    const LAST: i32 = 462;
    // Numbers from 336 to 423 are not in use (Linux, arch/x86/entry/syscalls/syscall_64.tbl).
    for call in (0..336).chain(424..=LAST) {
        for error in [EPERM, ENOSYS] {
            let restored = run("cds=app.cds", call, error);
            if restored != (0, "[1] 1048576\n".to_owned()) {
                let plain = run("cds=off", call, error);
                assert_ne!(plain.0, 0, "system call {call}: {restored:?}");
            }
        }
    }
}

/// Without address space randomization, the new process has its stack and its vdso at the addresses of the frozen
/// process. These regions are mapped last.
#[test]
fn a_process_that_lies_where_the_frozen_one_did_is_restored() {
    let project = Project::new(&[("app.lst", "json\n")]);
    let run = |arguments: &[&str]| {
        let mut command = Command::new("setarch");
        clean(&mut command);
        command
            .current_dir(project.path(""))
            .arg("-R")
            .arg(python());
        Outcome::of(command.args(arguments)).success()
    };
    run(&DUMP_IMAGE);
    const DEEP: &str = "
import sys
def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
sys.setrecursionlimit(20_000)
print(deep(15_000), sorted([3, 1], key=lambda n: sorted([n], key=str)))";
    let restored = run(&["-X", "cds=app.cds", "-X", "cds_stats", "-c", DEEP]);
    assert!(
        restored.stderr.contains("started from app.cds.image"),
        "{restored:?}"
    );
    assert_eq!(restored.stdout, "15000 [1, 3]\n");
}
