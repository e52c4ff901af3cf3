//! Generates the bindings from the patched and configured headers of the interpreter that the library is linked into.
//! So a changed struct is a compile error, and not a crash at run time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Types whose layout the library uses, with the header that defines each.
const TYPES: &[&str] = &[
    "PyGC_Head",       // internal/pycore_gc.h
    "PyWeakReference", // cpython/weakrefobject.h
    "PyASCIIObject",   // cpython/unicodeobject.h
    "PyCompactUnicodeObject",
    "PyBytesObject",          // cpython/bytesobject.h
    "PyLongObject",           // cpython/longintrepr.h
    "PyFloatObject",          // cpython/floatobject.h
    "PyComplexObject",        // cpython/complexobject.h
    "PyTupleObject",          // cpython/tupleobject.h
    "PySetObject",            // cpython/setobject.h
    "PyCodeObject",           // cpython/code.h
    "PyConfig",               // cpython/initconfig.h
    "PyMethodDef",            // methodobject.h
    "PyModuleDef",            // moduleobject.h
    "_PyCDS_LinkedExtension", // internal/pycore_cds.h
];

const VARIABLES: &[&str] = &[
    "PyBytes_Type",
    "PyCode_Type",
    "PyComplex_Type",
    "PyFloat_Type",
    "PyFrozenSet_Type",
    "PyLong_Type",
    "PyTuple_Type",
    "PyUnicode_Type",
    "PyExc_OSError",
    "PyExc_ResourceWarning",
    "PyExc_TypeError",
    "PyExc_ValueError",
    "NUM_GENERATIONS",
    "_PyGC_PREV_SHIFT",
    "Py_MARSHAL_VERSION",
    "METH_.*",
    "cds_glue_.*",
    "_Py_NoneStruct",
    "_Py_TrueStruct",
    "_Py_FalseStruct",
    "_Py_EllipsisObject",
    "_PyImport_DynLoadFiletab",
    "_PyCDS_LinkedExtensions",
    "CO_OPTIMIZED",
    "CACHE",
    "DELETE_ATTR",
    "EXTENDED_ARG",
    "LOAD_CONST",
    "LOAD_FAST",
    "NOP",
    "RESUME",
    "RETURN_CONST",
    "STORE_ATTR",
    "STORE_NAME",
    "PyLong_SHIFT",
    "PySet_MINSIZE",
    "Py_EQ",
];

const FUNCTIONS: &[&str] = &[
    "PyBytes_FromStringAndSize",
    "PyCFunction_GetFunction",
    "PyConfig_SetBytesArgv",
    "PyConfig_SetBytesString",
    "PyDict_Clear",
    "PyDict_ContainsString",
    "PyDict_Copy",
    "PyDict_GetItemString",
    "PyDict_MergeFromSeq2",
    "PyDict_New",
    "PyDict_Next",
    "PyDict_SetItem",
    "PyDict_SetItemString",
    "PyDict_Update",
    "PyCallable_Check",
    "PyErr_CheckSignals",
    "PyErr_Clear",
    "PyErr_GetRaisedException",
    "PyErr_Occurred",
    "PyErr_SetRaisedException",
    "PyErr_SetString",
    "PyErr_WriteUnraisable",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyImport_GetModule",
    "PyImport_ImportModuleLevel",
    "PyInterpreterState_Get",
    "PyOS_AfterFork_Child",
    "PyOS_AfterFork_Parent",
    "PyOS_BeforeFork",
    "PyFrozenSet_New",
    "PyGC_Collect",
    "PyList_Append",
    "PyList_New",
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyMarshal_ReadObjectFromString",
    "PyMem_RawFree",
    "PyWideStringList_Append",
    "Py_DecodeLocale",
    "Py_SetProgramName",
    "PyMarshal_WriteObjectToString",
    "PyModuleDef_Init",
    "PyModule_GetDict",
    "PyObject_ASCII",
    "PyObject_CallFinalizer",
    "PyObject_CallObject",
    "PyObject_GetAttrString",
    "PyObject_Repr",
    "PyObject_RichCompareBool",
    "PySequence_Contains",
    "PySequence_List",
    "PySequence_Tuple",
    "PyTuple_New",
    "PyTuple_SetItem",
    "PyUnicode_AsUTF8AndSize",
    "PyUnicode_FromStringAndSize",
    "PyWeakref_NewRef",
    "Py_DecRef",
    "Py_FinalizeEx",
    "Py_IncRef",
    "Py_GetVersion",
    "cds_glue_.*",
];

fn main() -> Result<()> {
    let source = tree("CPYTHON_CDS_SRC")?;
    let build = tree("CPYTHON_CDS_BUILD")?;
    let include = source.join("Include");
    ensure!(
        build.join("pyconfig.h").exists(),
        "{} is not configured: run `cargo xtask build-python`",
        build.display()
    );
    let includes = [build.clone(), include.clone(), include.join("internal")];
    for header in [
        build.join("pyconfig.h"),
        include.join("internal/pycore_cds.h"),
    ] {
        println!("cargo::rerun-if-changed={}", header.display());
    }
    println!("cargo::rerun-if-changed=src/cpython/glue.h");
    println!("cargo::rerun-if-changed=src/cpython/glue.c");

    let mut builder = bindgen::Builder::default()
        .header("src/cpython/glue.h")
        .clang_args(includes.iter().map(|path| format!("-I{}", path.display())))
        .clang_arg("-DPy_BUILD_CORE=1")
        .allowlist_recursively(true)
        .opaque_type("PyInterpreterState")
        .opaque_type("PyThreadState")
        .opaque_type("_typeobject")
        .derive_default(false)
        .layout_tests(true)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .wrap_unsafe_ops(true)
        .rust_edition(bindgen::RustEdition::Edition2024);
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    builder
        .generate()
        .context("bindgen could not read CPython's headers")?
        .write_to_file(out.join("bindings.rs"))?;

    cc::Build::new()
        .file("src/cpython/glue.c")
        .includes(&includes)
        .define("Py_BUILD_CORE", "1")
        .std("c11")
        .flag("-fvisibility=hidden")
        .warnings(true)
        .compile("cds_glue");
    Ok(())
}

/// The path of a source or build tree of the interpreter. `cargo xtask` sets it in the environment, and also writes it
/// to a file for other programs that run cargo (an editor, clippy).
fn tree(variable: &str) -> Result<PathBuf> {
    println!("cargo::rerun-if-env-changed={variable}");
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cpython/runtime.env");
    println!("cargo::rerun-if-changed={}", file.display());
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!("neither ${variable} nor {} says where CPython's headers are: run `cargo xtask build-python`", file.display())
    })?;
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
    Ok(found
        .with_context(|| format!("{} does not set {variable}", file.display()))?
        .into())
}
