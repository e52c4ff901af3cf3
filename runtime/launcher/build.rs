//! Finds the path of the system's dynamic linker: the compiler has written it into this program.

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
    Err("programs of this toolchain name no dynamic linker, which the interpreter needs".into())
}
