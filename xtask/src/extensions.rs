//! Extension modules of the standard library that are linked into the interpreter in addition to their files.
//!
//! To load one of them as a file costs a `dlopen()`. So the objects that make has compiled for these files are put into
//! one relocatable object, with a list of the modules (`struct _PyCDS_LinkedExtension`). If a file is unchanged, the
//! runtime takes the init function of its module from this list. Modules that need a shared library are not included:
//! the interpreter would load the library at every start. Modules that few programs need are not included either: a
//! larger interpreter starts more slowly with a cold page cache.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};
use xxhash_rust::xxh3::xxh3_64;

use crate::digest::Inputs;
use crate::progress::Phase;
use crate::stamp::{self, Stamp};
use crate::workspace::{self, Build};

/// The only global symbol of the object.
const LIST: &str = "_PyCDS_LinkedExtensions";

/// The system libraries that the interpreter needs anyway.
const FREE_LIBRARIES: [&str; 3] = ["-lm", "-ldl", "-lpthread"];

/// Sections that would make the linker compile and link the same code a second time.
const LINK_TIME_CODE: [&str; 2] = [".gnu.lto_*", ".gnu.debuglto_*"];

/// Prefixes of modules that are not included: modules for CPython's tests, and the East Asian codecs.
const RARE: [&str; 5] = ["_test", "_xx", "xx", "_codecs_", "_multibytecodec"];

/// An extension module of the Makefile.
struct Extension {
    name: String,
    /// The object files and static libraries that it is linked from, relative to the directory of the objects.
    parts: Vec<String>,
    file: PathBuf,
}

/// Puts an object without extension modules where make expects the object, if there is none: make needs one for the
/// first link, before it has compiled any module.
pub fn place(build: &Build) -> Result<()> {
    if build.is_stock() || object(build).exists() {
        return Ok(());
    }
    assemble(build, &Makefile::read(build)?, &[])
}

/// Updates the object from the modules that make has built. Returns whether the interpreter must be linked again.
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

/// Makes the object. Each module is first linked alone, and only its init function stays global, because other names
/// of different modules can be equal.
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
    let shell = workspace::shell()?;
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

/// The list of modules, as C code.
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

    /// The object files and static libraries of a link, or `None` if it needs anything else.
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
