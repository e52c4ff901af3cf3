//! Finds out where the system's dynamic linker lies: where programs of its compiler, as this one, look for it.

use std::error::Error;

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let program = std::fs::read("/proc/self/exe")?;
    let header = FileHeader64::<object::Endianness>::parse(&*program)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, &*program)? {
        if let Some(path) = segment.interpreter(endian, &*program)? {
            let path = std::str::from_utf8(path)?;
            println!("cargo::rustc-env=CDS_DYNAMIC_LINKER={path}");
            return Ok(());
        }
    }
    Err("programs of this toolchain have no dynamic linker, which the interpreter needs".into())
}
