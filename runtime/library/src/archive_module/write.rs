//! `write()`: converts Python's lists and tuples to the writer's input, and the writer's summary to a dict.

use std::path::Path;

use archive_format::{COMMAND, Freshness};

use crate::answer::patterns::{self, Key};
use crate::answer::roots;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::writer::{self, Contents, Directory, Interpreter, Module, Pattern, Touched, base};
use crate::{fingerprint, runtime};

pub fn write(
    [
        path,
        modules,
        patterns,
        directories,
        profiles,
        freshness,
        command,
    ]: [Object; 7],
) -> Result<Object> {
    let modules = modules.to_items()?;
    let modules = modules.iter().map(module).collect::<Result<Vec<_>>>()?;
    let patterns = patterns.to_items()?;
    let patterns = patterns.into_iter().map(pattern).collect::<Result<_>>()?;
    let directories = directories.to_items()?;
    let directories = directories
        .iter()
        .map(directory)
        .collect::<Result<Vec<_>>>()?;
    let touched = touched_by(&profiles)?;
    let freshness = self::freshness(freshness.to_str()?)?;
    let runtime = runtime::current()
        .ok_or_else(|| Raised::new(Exception::Os, "the archive runtime has been disabled"))?;
    let lower = runtime.layers.standard.as_ref().map(|layer| &layer.archive);
    let mut facts = fingerprint::facts(
        &runtime.config,
        &runtime.executable,
        lower.map(|lower| &lower.header),
    )
    .ok_or_else(|| Raised::new(Exception::Os, "this interpreter has no build id"))?;
    let command = command.to_str()?;
    if !command.is_empty() {
        facts = format!("{facts}{COMMAND}{command}\n");
    }
    let path = path.to_str()?;
    let interpreter = Interpreter {
        facts: &facts,
        executable: &runtime.executable,
        roots: &roots::current(&runtime.config),
        lower,
        base: if lower.is_some() {
            base::UPPER
        } else {
            base::LOWEST
        },
    };
    let contents = Contents {
        modules,
        patterns,
        directories,
        freshness,
    };
    let summary = writer::write(Path::new(path), contents, &interpreter, &touched)
        .map_err(|error| Raised::new(Exception::Os, &format!("cannot write {path}: {error}")))?;
    let counts = |map: &std::collections::BTreeMap<&'static str, usize>| {
        Object::dict(
            map.iter()
                .map(|(k, v)| Ok((*k, Object::int(*v as i64)?)))
                .collect::<Result<Vec<_>>>()?,
        )
    };
    let skipped = summary
        .skipped
        .iter()
        .map(|(name, reason)| Object::tuple(vec![Object::str(name)?, Object::str(reason)?]));
    let sizes = summary.sizes.iter().map(|module| {
        Object::tuple(vec![
            Object::str(&module.name)?,
            Object::int(module.pyc as i64)?,
            Object::int(module.archive as i64)?,
        ])
    });
    Object::dict([
        ("sizes", Object::list(sizes.collect::<Result<Vec<_>>>()?)?),
        ("modules", Object::int(summary.modules as i64)?),
        ("shared", Object::int(summary.shared as i64)?),
        ("patterns", Object::int(summary.patterns as i64)?),
        ("extensions", Object::int(summary.extensions as i64)?),
        ("directories", Object::int(summary.directories as i64)?),
        ("bytes", Object::int(summary.bytes as i64)?),
        ("objects", counts(&summary.objects)?),
        ("sections", counts(&summary.sections)?),
        (
            "skipped",
            Object::list(skipped.collect::<Result<Vec<_>>>()?)?,
        ),
    ])
}

fn freshness(name: &str) -> Result<Freshness> {
    let mut policies = Freshness::ALL.into_iter();
    policies
        .find(|policy| policy.name() == name)
        .ok_or_else(|| Raised::new(Exception::Value, "no such freshness policy"))
}

/// `(pattern, flags, …)`, see [`crate::answer::patterns`].
fn pattern(fields: Object) -> Result<Pattern> {
    let [pattern, flags, ..] = self::fields::<{ patterns::FIELDS }>(&fields)?;
    let key = Key { pattern, flags };
    let hash = key
        .hash()
        .ok_or_else(|| Raised::new(Exception::Value, "not a pattern"))?;
    Ok(Pattern { key, hash, fields })
}

/// `(name, origin or None, mtime_ns, size, code, is hot)`. The code is None for an extension module that is linked into
/// the interpreter.
fn module(item: &Object) -> Result<Module> {
    let [name, origin, mtime_ns, size, code, is_hot] = fields(item)?;
    Ok(Module {
        name: name.to_str()?.to_owned(),
        source: if origin.is_none() {
            None
        } else {
            Some(origin.to_str()?.to_owned())
        },
        mtime_ns: mtime_ns.to_i64()?,
        size: u64::try_from(size.to_i64()?)
            .map_err(|_| Raised::new(Exception::Value, "negative size"))?,
        content_hash: 0,
        code: (!code.is_none()).then_some(code),
        is_hot: is_hot.is_true(),
    })
}

/// `(path, mtime_ns, [(name, file or None), …])`
fn directory(item: &Object) -> Result<Directory> {
    let [path, mtime_ns, entries] = fields(item)?;
    let entry = |item: &Object| {
        let [name, file] = fields(item)?;
        let file = if file.is_none() {
            None
        } else {
            Some(file.to_str()?.to_owned())
        };
        Ok((name.to_str()?.to_owned(), file))
    };
    Ok(Directory {
        path: path.to_str()?.to_owned(),
        mtime_ns: mtime_ns.to_i64()?,
        listing: 0,
        entries: entries
            .to_items()?
            .iter()
            .map(entry)
            .collect::<Result<_>>()?,
    })
}

/// `[[line, …], …]`: the lines of each profile.
fn touched_by(profiles: &Object) -> Result<Touched> {
    let mut touched = Touched::default();
    for profile in profiles.to_items()? {
        let keys = profile
            .to_items()?
            .iter()
            .map(profile_line)
            .collect::<Result<Vec<_>>>()?;
        touched.add_run(keys.into_iter());
    }
    Ok(touched)
}

fn profile_line(item: &Object) -> Result<u64> {
    let line = item.to_str()?;
    let error = |_| {
        Raised::new(
            Exception::Value,
            &format!("not a line of a profile: {line:?}"),
        )
    };
    u64::from_str_radix(line, 16).map_err(error)
}

fn fields<const N: usize>(item: &Object) -> Result<[Object; N]> {
    let items = item.to_items()?;
    let found = items.len();
    items.try_into().map_err(|_| {
        Raised::new(
            Exception::Value,
            &format!("expected a tuple of {N} items, got {found}"),
        )
    })
}
