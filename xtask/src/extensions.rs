//! Extension modules of the standard library that are linked into the interpreter besides being built as files.
//!
//! Loading one of them as a file costs a `dlopen()`. What make has compiled for the file is put into one relocatable
//! object, with a list of what is in it (`struct _PyCDS_LinkedExtension`), from which the runtime takes the init
//! function of an unchanged file. Modules that need a shared library stay out: linked in, they would load it at
//! every start. So do those that hardly a program needs: the interpreter's size shows when it starts with a cold page cache.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};
use xxhash_rust::xxh3::xxh3_64;

use crate::digest::Inputs;
use crate::progress::Phase;
use crate::stamp::{self, Stamp};
use crate::workspace::Build;

/// All that stays visible of the object.
const LIST: &str = "_PyCDS_LinkedExtensions";

/// The system libraries that the interpreter needs anyway.
const FREE_LIBRARIES: [&str; 3] = ["-lm", "-ldl", "-lpthread"];

/// What links the same code a second time, and would be taken for a reason to compile it again.
const LINK_TIME_CODE: [&str; 2] = [".gnu.lto_*", ".gnu.debuglto_*"];

/// How the names of modules begin that stay out: those for CPython's tests, and the codecs of East Asia.
const RARE: [&str; 5] = ["_test", "_xx", "xx", "_codecs_", "_multibytecodec"];

/// An extension module, as the Makefile has it.
struct Extension {
    name: String,
    /// What it is linked from: object files and static libraries, relative to the directory of the objects.
    parts: Vec<String>,
    file: PathBuf,
}

/// Puts an object without any extension module where make expects one, if none is there: the first link comes before
/// there is anything to put in.
pub fn place(build: &Build) -> Result<()> {
    if build.is_stock() || object(build).exists() {
        return Ok(());
    }
    assemble(build, &Makefile::read(build)?, &[])
}

/// Brings the object up to date with what make has built. Returns whether the interpreter has to be linked again.
pub fn link(build: &Build) -> Result<bool> {
    if build.is_stock() {
        return Ok(false);
    }
    let makefile = Makefile::read(build)?;
    let extensions = makefile.extensions(&build.objects());
    ensure!(
        !extensions.is_empty(),
        "no rule of {} for an extension module is known: see Modules/makesetup of this release",
        build.objects().join("Makefile").display()
    );
    let mut inputs = Inputs::new();
    for extension in &extensions {
        for part in &extension.parts {
            inputs.add_times(&build.objects().join(part))?;
        }
        inputs.add_times(&extension.file)?;
    }
    let inputs = inputs.finish();
    let stamp = Stamp::new(build.objects().join("extensions.stamp"));
    if stamp.is(&inputs) {
        return Ok(false);
    }
    let phase = Phase::start("link extension modules in");
    stamp.clear()?;
    assemble(build, &makefile, &extensions)?;
    phase.done();
    stamp.set(&inputs)?;
    Ok(true)
}

fn object(build: &Build) -> PathBuf {
    build.objects().join("Modules/cds_extensions.o")
}

/// Makes the object. Each module comes in by itself first, with nothing visible but its init function: their other
/// names are not meant to meet.
fn assemble(build: &Build, makefile: &Makefile, extensions: &[Extension]) -> Result<()> {
    let objects = build.objects();
    let directory = tempfile::tempdir_in(&objects).context("cannot create a directory")?;
    let list = directory.path().join("list.c");
    fs::write(&list, listing(extensions)?)
        .with_context(|| format!("cannot write {}", list.display()))?;
    let compiled = directory.path().join("list.o");
    let mut compiler = makefile.value("CC").split_whitespace();
    let cc = compiler.next().unwrap_or("cc");
    let public = build.source().join("Include");
    let internal = public.join("internal");
    let shell = Shell::new().context("there is no working directory")?;
    shell.change_dir(&objects);
    cmd!(
        shell,
        "{cc} {compiler...} -c -fPIC -DPy_BUILD_CORE -I {objects} -I {public} -I {internal} -o {compiled} {list}"
    )
    .quiet()
    .run()?;

    let mut parts = vec![compiled];
    for extension in extensions {
        let linked = directory.path().join(format!("{}.linked", extension.name));
        let own = &extension.parts;
        cmd!(shell, "ld -r -o {linked} {own...}").quiet().run()?;
        let local = linked.with_extension("o");
        show_only(
            &shell,
            &format!("PyInit_{}", extension.name),
            &linked,
            &local,
        )?;
        parts.push(local);
    }
    let linked = directory.path().join("all.linked");
    cmd!(shell, "ld -r -o {linked} {parts...}").quiet().run()?;
    let local = linked.with_extension("o");
    show_only(&shell, LIST, &linked, &local)?;
    let object = object(build);
    fs::rename(&local, &object).with_context(|| format!("cannot write {}", object.display()))
}

fn show_only(shell: &Shell, symbol: &str, from: &Path, to: &Path) -> Result<()> {
    let removed = LINK_TIME_CODE.map(|section| format!("--remove-section={section}"));
    cmd!(
        shell,
        "objcopy --wildcard {removed...} --keep-global-symbol={symbol} {from} {to}"
    )
    .quiet()
    .run()?;
    stamp::remove_file(from)
}

/// The list, in C.
fn listing(extensions: &[Extension]) -> Result<String> {
    let mut declarations = String::new();
    let mut entries = String::new();
    for Extension { name, file, .. } in extensions {
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (bytes, checksum) = (content.len(), xxh3_64(&content));
        declarations += &format!("extern PyObject *PyInit_{name}(void);\n");
        entries += &format!("    {{\"{name}\", {bytes}, {checksum:#x}, PyInit_{name}}},\n");
    }
    Ok(format!(
        "#include \"Python.h\"\n#include \"pycore_cds.h\"\n\n{declarations}\n\
         const struct _PyCDS_LinkedExtension {LIST}[] = {{\n{entries}    {{NULL, 0, 0, NULL}},\n}};\n"
    ))
}

/// The generated Makefile.
struct Makefile {
    text: String,
    variables: HashMap<String, String>,
}

impl Makefile {
    fn read(build: &Build) -> Result<Self> {
        let path = build.objects().join("Makefile");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(text))
    }

    fn parse(text: String) -> Self {
        let assignment = |line: &str| {
            let (name, value) = line.split_once('=')?;
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            is_name.then(|| (name.to_owned(), value.trim().to_owned()))
        };
        let variables = text.lines().filter_map(assignment).collect();
        Self { text, variables }
    }

    fn value(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// The modules that can be linked in. makesetup writes their rules in one form (Modules/makesetup):
    /// `Modules/NAME$(EXT_SUFFIX): OBJECTS; $(BLDSHARED) OBJECTS LIBRARIES $(LIBPYTHON) -o FILE`, in newer releases with
    /// `$(MODULE_LDFLAGS_SHARED)` in place of `$(LIBPYTHON)`.
    fn extensions(&self, objects: &Path) -> Vec<Extension> {
        let extension = |line: &str| {
            let (target, rule) = line.split_once(':')?;
            let name = target
                .strip_prefix("Modules/")?
                .strip_suffix("$(EXT_SUFFIX)")?;
            let (_, link) = rule.split_once("$(BLDSHARED)")?;
            let mut ends = ["$(LIBPYTHON)", "$(MODULE_LDFLAGS_SHARED)"].into_iter();
            let (parts, _) = ends.find_map(|end| link.split_once(end))?;
            let file = format!("Modules/{name}{}", self.value("EXT_SUFFIX"));
            Some(Extension {
                name: name.to_owned(),
                parts: self.linkable(parts)?,
                file: objects.join(file),
            })
        };
        let is_rare = |name: &str| {
            RARE.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with("_test")
        };
        let extensions = self.text.lines().filter_map(extension);
        extensions
            .filter(|extension| !is_rare(&extension.name) && extension.file.exists())
            .collect()
    }

    /// The object files and static libraries of a link, or nothing if it takes more.
    fn linkable(&self, link: &str) -> Option<Vec<String>> {
        let mut parts = Vec::new();
        for word in link.split_whitespace() {
            if word.ends_with(".o") || word.ends_with(".a") {
                parts.push(word.to_owned());
            } else if let Some(name) = word.strip_prefix("$(").and_then(|w| w.strip_suffix(')')) {
                parts.extend(self.linkable(self.value(name))?);
            } else if !FREE_LIBRARIES.contains(&word) {
                return None;
            }
        }
        Some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_needs_a_shared_library_is_not_linked_in() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let modules = directory.path().join("Modules");
        fs::create_dir(&modules).expect("a directory can be made");
        for name in ["math", "zlib", "pyexpat", "_testcapi", "_csv"] {
            fs::write(modules.join(format!("{name}.so")), "").expect("a file can be written");
        }
        let makefile = Makefile::parse(
            "EXT_SUFFIX=\t.so\n\
             MODULE_MATH_LDFLAGS=-lm\n\
             MODULE_ZLIB_LDFLAGS=-lz \n\
             LIBEXPAT_A= Modules/expat/libexpat.a\n\
             MODULE_PYEXPAT_LDFLAGS=-lm $(LIBEXPAT_A)\n\
             Modules/math$(EXT_SUFFIX):  Modules/m.o; $(BLDSHARED)  Modules/m.o $(MODULE_MATH_LDFLAGS) $(LIBPYTHON) -o x\n\
             Modules/zlib$(EXT_SUFFIX):  Modules/z.o; $(BLDSHARED)  Modules/z.o $(MODULE_ZLIB_LDFLAGS) $(LIBPYTHON) -o x\n\
             Modules/pyexpat$(EXT_SUFFIX):  Modules/p.o; $(BLDSHARED)  Modules/p.o $(MODULE_PYEXPAT_LDFLAGS) $(LIBPYTHON) -o x\n\
             Modules/_testcapi$(EXT_SUFFIX):  Modules/t.o; $(BLDSHARED)  Modules/t.o $(LIBPYTHON) -o x\n\
             Modules/_gone$(EXT_SUFFIX):  Modules/g.o; $(BLDSHARED)  Modules/g.o $(LIBPYTHON) -o x\n\
             Modules/_csv$(EXT_SUFFIX):  Modules/c.o; $(BLDSHARED)  Modules/c.o $(MODULE_CSV_LDFLAGS) $(MODULE_LDFLAGS_SHARED) -o x\n"
                .to_owned(),
        );
        let linked: Vec<_> = makefile
            .extensions(directory.path())
            .into_iter()
            .map(|extension| (extension.name, extension.parts.join(" ")))
            .collect();
        assert_eq!(
            linked,
            [
                ("math".to_owned(), "Modules/m.o".to_owned()),
                (
                    "pyexpat".to_owned(),
                    "Modules/p.o Modules/expat/libexpat.a".to_owned()
                ),
                ("_csv".to_owned(), "Modules/c.o".to_owned()),
            ]
        );
    }
}
