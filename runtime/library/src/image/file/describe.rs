//! A description of an image file, for reports.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use startup_image::format::{FileIdentity, Image, Source};
use startup_image::image_file::ImageFile;

/// What an image contains, and what it depends on.
pub struct Description {
    pub executable: String,
    pub options: Vec<String>,
    /// The program that the image is for, as on the command line; none if the image is for any program.
    pub program: Option<String>,
    /// Bytes of memory that are stored in the image file, that are zero, and that come from other files.
    pub stored: u64,
    pub zero: u64,
    pub in_files: u64,
    pub regions: usize,
    /// The other files, with the number of bytes that are mapped from each.
    pub files: Vec<(String, u64)>,
    /// Whether all environment variables are compared.
    pub compares_whole_environment: bool,
    /// The compared variables, with their values when the image was taken.
    pub environment: Vec<(String, Option<String>)>,
    /// The standard streams whose terminal is compared.
    pub terminals: Vec<String>,
    /// Names of top-level modules.
    pub names: Vec<String>,
    /// The number of files and directories that the imports looked at.
    pub paths: usize,
    /// What the program was stopped at, for an image of a program.
    pub stopped_at: Option<String>,
    /// What restored processes may find that differs from a plain start.
    pub reported: Vec<String>,
    /// The files and directories that have changed since the image was taken, mapped files included.
    pub changed: Vec<String>,
}

/// The files and directories that have changed, among those that the imports looked at and among the mapped files.
pub fn changed<'a>(image: &'a Image) -> impl Iterator<Item = &'a [u8]> {
    let mapped = image.files.iter().filter(|backing| {
        let now = rustix::fs::stat(backing.path).ok();
        now.as_ref().map(FileIdentity::of) != Some(backing.identity)
    });
    image
        .key
        .changed()
        .chain(mapped.map(|backing| backing.path))
}

/// Reads an image file.
///
/// # Errors
/// A text that says why the file is not a valid image.
pub fn describe(path: &Path) -> Result<Description, String> {
    let file = ImageFile::open(path.as_os_str().as_bytes())?.ok_or("there is no such file")?;
    let image = file.image()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut stored, mut zero, mut in_files) = (0, 0, 0);
    let mut mapped: BTreeMap<u32, u64> = BTreeMap::new();
    for region in &image.regions {
        match region.source {
            Source::Zero => zero += region.bytes,
            Source::Image(_) => stored += region.bytes,
            Source::File(index, _) => {
                in_files += region.bytes;
                *mapped.entry(index).or_default() += region.bytes;
            }
        }
    }
    let filled: u64 = image.fills.iter().map(|fill| fill.bytes).sum();
    stored += filled;
    zero -= filled;
    let key = &image.key;
    let changed = changed(&image).map(text).collect();
    let files = image.files.iter().zip(0..).map(|(backing, index)| {
        let bytes = mapped.get(&index).copied().unwrap_or_default();
        (text(backing.path), bytes)
    });
    let whole = key.whole_environment.iter().flatten();
    let whole = whole.map(|(name, value)| (name, Some(value)));
    let compared = key.environment.iter();
    let environment = whole.chain(compared.map(|(name, value)| (name, value.as_ref())));
    let environment: BTreeMap<_, _> = environment.collect();
    let mut reported: Vec<String> = image.reported.iter().map(|&it| it.to_owned()).collect();
    let stopped_at = key.program.as_ref().and_then(|_| reported.pop());
    Ok(Description {
        executable: text(&key.executable),
        options: key.options.iter().map(|option| text(option)).collect(),
        program: key.program.as_ref().map(|it| program(&it.identity)),
        stored,
        zero,
        in_files,
        regions: image.regions.len(),
        files: files.collect(),
        compares_whole_environment: key.whole_environment.is_some(),
        environment: environment
            .into_iter()
            .map(|(name, value)| (text(name), value.map(|value| text(value))))
            .collect(),
        terminals: key
            .terminals
            .iter()
            .map(|terminal| terminal.stream().to_owned())
            .collect(),
        names: key
            .top_level_modules
            .iter()
            .map(|name| text(name))
            .collect(),
        paths: key.paths.len() + key.searched.len(),
        stopped_at,
        reported,
        changed,
    })
}

/// The words of a program's identity. For a script, the first word is empty, and the last is its directory or empty.
fn program(identity: &[u8]) -> String {
    let words = identity.split(|&byte| byte == 0);
    let words = words.filter(|word| !word.is_empty());
    let words = words.map(String::from_utf8_lossy).collect::<Vec<_>>();
    match &words[..] {
        [options @ .., directory] if !options.is_empty() => {
            format!("{} in {directory}", options.join(" "))
        }
        _ => words.join(" "),
    }
}
