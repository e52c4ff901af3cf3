//! Workers of `multiprocessing` that are started with the method "image" do what spawned workers do.

use cpython_cds_tests::{Outcome, Project, settle};

const CACHE: &str = "cache";

/// Prints what a worker finds, and uses what workers are used for. The argument is the start method.
const PROGRAM: &str = "
import concurrent.futures, logging, multiprocessing, os, shop.cart, sys
from multiprocessing import shared_memory

STARTED = multiprocessing.get_start_method(allow_none=True)
NAME = __name__


def facts(queue, event):
    process = multiprocessing.current_process()
    import __main__
    queue.put([
        process.name, process.daemon, sys.argv, sys.path, os.getcwd(), STARTED, NAME,
        __main__.__name__, __main__ is sys.modules.get('__mp_main__'), shop.cart.total([1]),
        multiprocessing.get_start_method(), multiprocessing.parent_process().name,
        os.environ.get('SET_BY_PARENT'), multiprocessing.get_logger().level,
        [name for name in sys.modules if name.startswith('shop')], tuple(sys.flags), sys.stdin.name,
    ])
    event.wait()
    sys.exit(7)


def square(number):
    return number * number, multiprocessing.current_process().name.partition('-')[0]


def share(name):
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[0] = 42
    memory.close()


def fail():
    raise ValueError('in the worker')


def main():
    context = multiprocessing.get_context(sys.argv[1])
    multiprocessing.get_logger().setLevel(logging.WARNING)
    os.environ['SET_BY_PARENT'] = 'yes'
    queue, event = context.Queue(), context.Event()
    process = context.Process(target=facts, args=(queue, event), name='first')
    process.start()
    print(queue.get())
    event.set()
    process.join()
    print(process.exitcode)
    with context.Pool(2) as pool:
        print(pool.map(square, range(3), chunksize=3))
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        print([number for number, _ in executor.map(square, range(4))])
    with context.Manager() as manager:
        shared = manager.dict()
        shared['x'] = manager.list([1])
        print(shared['x'][0])
    memory = shared_memory.SharedMemory(create=True, size=1)
    for target, arguments in [(share, (memory.name,)), (fail, ())]:
        process = context.Process(target=target, args=arguments)
        process.start()
        process.join()
        print(process.exitcode)
    print(memory.buf[0])
    memory.close()
    memory.unlink()


if __name__ == '__main__':
    main()
";

fn project(app: &str) -> Project {
    Project::new(&[
        ("app.py", app),
        ("shop/__init__.py", ""),
        ("shop/__main__.py", "from app import main\nmain()\n"),
        (
            "shop/cart.py",
            "import json, decimal\ndef total(prices): return str(sum(prices, decimal.Decimal(0)))\n",
        ),
    ])
}

/// Runs a program whose workers use the cache. Waits for background processes.
fn run(project: &Project, arguments: &[&str]) -> Outcome {
    let mut command = project.command(arguments);
    let outcome = Outcome::of(command.env("PYTHON_CDS_CACHE", project.path(CACHE)));
    settle(project);
    outcome
}

/// The images of workers in the cache: their paths, and how often a worker was restored.
fn images(project: &Project) -> Vec<(String, u64)> {
    let report = run(project, &["-m", "cds", "status", "--json"]).success();
    let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    let programs = report["programs"].as_array().unwrap().iter();
    let workers = programs.filter(|program| {
        let command = program["command"].as_str().unwrap_or("");
        command.contains("_cds_workers.child")
    });
    let variants = workers.flat_map(|program| program["variants"].as_array().unwrap());
    let with_image = variants.filter(|variant| variant["image"].is_string());
    with_image
        .map(|variant| {
            let image = variant["image"].as_str().unwrap().to_owned();
            (image, variant["uses"].as_u64().unwrap())
        })
        .collect()
}

fn restored_workers(project: &Project) -> u64 {
    images(project).iter().map(|(_, uses)| uses).sum()
}

/// The names of processes, and the argument of the program, have the start method in them.
fn as_spawned(outcome: Outcome) -> Outcome {
    let replaced = |text: &str| text.replace("image", "spawn").replace("Image", "Spawn");
    Outcome {
        stdout: replaced(&outcome.stdout),
        stderr: replaced(&outcome.stderr),
        ..outcome
    }
}

#[test]
fn workers_do_what_spawned_workers_do() {
    let project = project(PROGRAM);
    let expected = run(&project, &["app.py", "spawn"]);
    for _ in 0..3 {
        assert_eq!(as_spawned(run(&project, &["app.py", "image"])), expected);
    }
    assert!(restored_workers(&project) > 0);
    // The main module is in the image: the worker was stopped when it asked which process it is.
    for (image, _) in images(&project) {
        let report = run(&project, &["-m", "cds", "inspect", &image]).success();
        assert!(
            report.stdout.contains("_cds_workers/child.py"),
            "{report:?}"
        );
    }
}

/// A main module that asks for what only the parent knows, or has effects, while a worker imports it.
#[test]
fn a_main_module_may_ask_which_process_imports_it() {
    for at_import in [
        "found = multiprocessing.current_process().name",
        "found = len(multiprocessing.current_process().authkey)",
        "found = repr(multiprocessing.current_process())",
        "multiprocessing.current_process().name = found = 'other'",
        "found = multiprocessing.current_process().daemon",
        "found = multiprocessing.Lock() and 'a lock'",
        "import sys; found = sys.argv",
        "import sys; found = len(sys.argv), sys.argv[0]",
        "import os; found = os.environ.get('NUMBER')",
        "found = 0; print('imported', flush=True)",
        "import random; found = random.seed(5) or random.random()",
    ] {
        let program = format!(
            "import multiprocessing, os, sys, shop.cart\n{at_import}\n\
             def report(queue): queue.put([found, multiprocessing.current_process().name])\n\
             if __name__ == '__main__':\n    \
                 context = multiprocessing.get_context(os.environ['METHOD'])\n    \
                 for number in range(3):\n        \
                     os.environ['NUMBER'] = str(number)\n        \
                     queue = context.SimpleQueue()\n        \
                     worker = context.Process(target=report, args=(queue,))\n        \
                     worker.start()\n        \
                     print(queue.get())\n        \
                     worker.join()\n        \
                     print(worker.exitcode, flush=True)\n"
        );
        let project = project(&program);
        let start = |method: &str, argument: &str| {
            let mut command = project.command(["app.py", argument]);
            command.env("PYTHON_CDS_CACHE", project.path(CACHE));
            let outcome = Outcome::of(command.env("METHOD", method));
            settle(&project);
            as_spawned(outcome)
        };
        for argument in ["one", "two", "two"] {
            assert_eq!(
                start("image", argument),
                start("spawn", argument),
                "{at_import}"
            );
        }
        assert!(restored_workers(&project) > 0, "{at_import}");
    }
}

#[test]
fn an_edit_is_noticed_and_the_main_module_may_be_any() {
    let project = project(PROGRAM);
    for main in [&["-m", "app"][..], &["-m", "shop"], &["./app.py"]] {
        let run = |method: &str| as_spawned(run(&project, &[main, &[method]].concat()));
        for price in ["[1]", "[1, 2]"] {
            let program = PROGRAM.replace("total([1])", &format!("total({price})"));
            project.write("app.py", &program);
            let expected = run("spawn");
            for _ in 0..3 {
                assert_eq!(run("image"), expected, "{main:?}");
            }
        }
    }
    assert!(restored_workers(&project) > 0);
}

#[test]
fn without_the_cache_a_worker_is_spawned_and_the_logger_says_why() {
    let program = "
import logging, multiprocessing, sys


def work():
    print(sys.orig_argv[-2][:40], flush=True)


if __name__ == '__main__':
    multiprocessing.log_to_stderr(logging.INFO)
    multiprocessing.set_start_method('image')
    worker = multiprocessing.Process(target=work)
    worker.start()
    worker.join()
";
    let project = project(program);
    let start = |variables: &[(&str, &str)], options: &[&str]| {
        let mut command = project.command([options, &["app.py"]].concat());
        let outcome = Outcome::of(command.envs(variables.iter().copied()));
        let reason = outcome.stderr.lines().find(|line| line.contains("spawned"));
        let reason = reason.map_or("", |line| line.trim_start_matches("[INFO/MainProcess] "));
        format!("{}{reason}\n", outcome.stdout)
    };
    let cache = project.path(CACHE);
    let cache = [("PYTHON_CDS_CACHE", cache.to_str().unwrap())];
    let said = [
        start(&cache, &[]),
        start(&[cache[0], ("PYTHON_CDS", "off")], &[]),
        start(&cache, &["-X", "cds=off"]),
        start(&[("PYTHON_CDS_CACHE", "relative")], &[]),
    ];
    settle(&project);
    insta::assert_snapshot!(said.concat());
}

/// CPython's tests of the start method "spawn" with this method. `CDS_WORKER_TESTS=all` selects all of them.
#[test]
fn tests_of_cpython_pass() {
    let wanted: &[&str] = match std::env::var("CDS_WORKER_TESTS").as_deref() {
        Ok("all") => &["misc", "threads", "processes", "manager"],
        _ => &["threads"],
    };
    let project = Project::new(&[
        ("image/__init__.py", ""),
        (
            "image/test_first.py",
            "import multiprocessing, unittest\n\
             class T(unittest.TestCase):\n    \
                 def test(self):\n        \
                     worker = multiprocessing.get_context('image').Process(target=print)\n        \
                     worker.start()\n        \
                     worker.join()\n",
        ),
    ]);
    // All workers of `unittest` are one program. From here on they are restored.
    for _ in 0..3 {
        run(&project, &["-m", "unittest", "image.test_first"]).success();
    }
    assert!(restored_workers(&project) > 0);
    for kind in wanted {
        let arguments = match *kind {
            "misc" => "exclude_types=True".to_owned(),
            kind => format!("only_type='{kind}'"),
        };
        let text = format!(
            "from test._test_multiprocessing import install_tests_in_module_dict\n\
             install_tests_in_module_dict(globals(), 'image', {arguments})\n"
        );
        project.write(&format!("image/test_{kind}.py"), &text);
        let outcome = run(&project, &["-m", "unittest", &format!("image.test_{kind}")]);
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    }
}
