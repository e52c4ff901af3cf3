//! The builtin module `_cds_archive`, for the package `cds`: it writes archives, inspects their files, and describes
//! the archives in use.

mod cache;
mod image_inspection;
mod inspection;
mod object_archives;
mod object_walk;
mod observation;
mod opened;
mod renewal;
mod status;
mod write;

use std::sync::OnceLock;

use crate::border::{arguments, fenced_method};
use crate::cpython::module_definition::{Method, ModuleDefinition};
use crate::cpython::object::{Borrowed, Object};
use cache::{awaited_starts, cache_directory, enabling_file, entries_of, image_taken};
use image_inspection::{
    archive_of, compared_facts, do_arguments_vary, found_by_search, ignore_searches, image_note,
    image_of, image_options, inspect_image, is_idle, is_image, needs_renewal, searches, set_up,
    write_image_note,
};
use inspection::{command_of, dry_run, hash_file, hash_listing, inspect, verify};
use object_archives::{find_unsuitable, load_object, write_object};
use object_walk::walk;
use observation::{read_record, run_observed};
use renewal::{archived_lines, loaded_lines, recorded_run};
use status::{archived_modules, is_linked, module_names, status};
use write::write;

/// Defines a method: its documentation, which begins with name and signature, and the function that takes an array of
/// arguments.
macro_rules! method {
    ($name:literal, $function:path, $doc:literal $(,)?) => {{
        unsafe extern "C" fn call(
            _: Borrowed,
            args: *const Object,
            count: isize,
        ) -> Option<Object> {
            // SAFETY: the arguments come from the calling convention METH_FASTCALL.
            fenced_method($name, || $function(unsafe { arguments(args, count) }?))
        }
        Method {
            name: $name,
            call,
            doc: $doc,
        }
    }};
}

/// Begins the initialization of the module.
pub fn init() -> Option<Borrowed> {
    static DEFINITION: OnceLock<ModuleDefinition> = OnceLock::new();
    let definition = DEFINITION.get_or_init(|| {
        let methods = [
            method!(
                c"write",
                write,
                c"write(path, modules, patterns, directories, profiles, freshness, command)\n--\n\nWrite an archive and return a summary.",
            ),
            method!(
                c"write_object",
                write_object,
                c"write_object(path, items)\n--\n\nWrite an archive that contains the item of a tuple, or no object.",
            ),
            method!(
                c"load_object",
                load_object,
                c"load_object(path)\n--\n\nMap an archive of one object. Return a tuple with the object, or an empty one.",
            ),
            method!(
                c"find_unsuitable",
                find_unsuitable,
                c"find_unsuitable(object)\n--\n\nReturn the name of the first type in an object that cannot be archived, or None.",
            ),
            method!(
                c"is_linked",
                is_linked,
                c"is_linked(name, path)\n--\n\nWhether a file is the extension module that is linked into the interpreter.",
            ),
            method!(
                c"status",
                status,
                c"status()\n--\n\nThe archives in use, upper layer first.",
            ),
            method!(
                c"archived_modules",
                archived_modules,
                c"archived_modules()\n--\n\nName, source file and code of each module of the archive in use, and of the archive below.",
            ),
            method!(
                c"module_names",
                module_names,
                c"module_names()\n--\n\nThe modules of the archives in use.",
            ),
            method!(
                c"inspect",
                inspect,
                c"inspect(path)\n--\n\nDescribe the contents of an archive file.",
            ),
            method!(
                c"inspect_image",
                inspect_image,
                c"inspect_image(path)\n--\n\nDescribe the contents of a startup image.",
            ),
            method!(
                c"loaded_lines",
                loaded_lines,
                c"loaded_lines()\n--\n\nLines of a trace list with the modules that this process has loaded.",
            ),
            method!(
                c"read_record",
                read_record,
                c"read_record(path)\n--\n\nThe entries of a record of run_observed(): pairs of a kind and a text.",
            ),
            method!(
                c"run_observed",
                run_observed,
                c"run_observed(arguments, environment, terminal, record, seconds, watch)\n--\n\nRun a command, and record what it looks at until it opens the record.",
            ),
            method!(
                c"image_of",
                image_of,
                c"image_of(archive)\n--\n\nThe path of the startup image of an archive."
            ),
            method!(
                c"archive_of",
                archive_of,
                c"archive_of(image)\n--\n\nThe path of the archive of a startup image, or None if no image has this name."
            ),
            method!(
                c"compared_facts",
                compared_facts,
                c"compared_facts()\n--\n\nThe names of the facts about a process that images compare and the kernel provides.",
            ),
            method!(
                c"searches",
                searches,
                c"searches()\n--\n\nThe directories in which this process has searched for modules while an image is taken of it, the names searched for (None if not known), and the entries that were there before. The list is emptied.",
            ),
            method!(
                c"found_by_search",
                found_by_search,
                c"found_by_search(entries, names)\n--\n\nThe entries of a directory that a search for names finds. The names are sorted; each name and each result ends with NUL.",
            ),
            method!(
                c"ignore_searches",
                ignore_searches,
                c"ignore_searches(are_ignored)\n--\n\nLeave searches out of the result of `searches()` until this is called again.",
            ),
            method!(
                c"set_up",
                set_up,
                c"set_up()\n--\n\nRun the set-ups that were postponed while an image is taken of this process.",
            ),
            method!(
                c"image_options",
                image_options,
                c"image_options()\n--\n\nThe options of this process in the form that an image has, or None if no image can have them.",
            ),
            method!(
                c"needs_renewal",
                needs_renewal,
                c"needs_renewal(path, program, arguments)\n--\n\nWhether a startup image should be renewed for a run of a program.",
            ),
            method!(
                c"is_idle",
                is_idle,
                c"is_idle(path)\n--\n\nWhether a startup image in the cache was not used for so long that another one may take its place.",
            ),
            method!(
                c"do_arguments_vary",
                do_arguments_vary,
                c"do_arguments_vary(path, program, arguments)\n--\n\nWhether a startup image shows that runs of a program had different arguments.",
            ),
            method!(
                c"command_of",
                command_of,
                c"command_of(path)\n--\n\nThe command that has written an archive, or an empty string.",
            ),
            method!(
                c"is_image",
                is_image,
                c"is_image(path)\n--\n\nWhether a file begins like a startup image.",
            ),
            method!(
                c"image_note",
                image_note,
                c"image_note(path)\n--\n\nThe reason why there is no startup image, from the note in its place, or None.",
            ),
            method!(
                c"write_image_note",
                write_image_note,
                c"write_image_note(path, reason)\n--\n\nWrite a note with the reason why there is no startup image, in its place.",
            ),
            method!(
                c"awaited_starts",
                awaited_starts,
                c"awaited_starts(entry)\n--\n\nHow many starts without an image are awaited before a program gets the next one.",
            ),
            method!(
                c"image_taken",
                image_taken,
                c"image_taken(archive)\n--\n\nNote in the cache that an image was taken for an archive.",
            ),
            method!(
                c"recorded_run",
                recorded_run,
                c"recorded_run()\n--\n\nThe record of the run that has started this process to renew an archive, or None.",
            ),
            method!(
                c"cache_directory",
                cache_directory,
                c"cache_directory()\n--\n\nThe directory of this user's cache, or None if no variable leads to one.",
            ),
            method!(
                c"enabling_file",
                enabling_file,
                c"enabling_file()\n--\n\nThe file that turns the cache on for a user, or None if no variable leads to it.",
            ),
            method!(
                c"entries_of",
                entries_of,
                c"entries_of(arguments)\n--\n\nThe directories in the cache for a command line: of its program, and of base images.",
            ),
            method!(
                c"archived_lines",
                archived_lines,
                c"archived_lines()\n--\n\nLines of a trace list with the contents of the archive in use.",
            ),
            method!(
                c"walk",
                walk,
                c"walk(path, address)\n--\n\nDescribe the object at an address of an archive file, and all objects that can be reached from it.",
            ),
            method!(
                c"hash_file",
                hash_file,
                c"hash_file(path)\n--\n\nThe hash of a file's contents, as an archive stores it.",
            ),
            method!(
                c"hash_listing",
                hash_listing,
                c"hash_listing(path)\n--\n\nThe hash of the names in a directory that an import can find, as an archive stores it.",
            ),
            method!(
                c"dry_run",
                dry_run,
                c"dry_run(path)\n--\n\nMap a file as a start does, look up everything in it, and unmap it.",
            ),
            method!(
                c"verify",
                verify,
                c"verify(path)\n--\n\nList the errors in an archive file.",
            ),
        ];
        let doc = c"Archives of code objects.";
        ModuleDefinition::new(c"_cds_archive", doc, methods)
    });
    definition.begin()
}
