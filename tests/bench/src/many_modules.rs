//! A generated package of many small modules, like the client libraries of cloud providers: most of the start is spent
//! with finding and loading modules.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Makes a package of so many modules below a directory, unless it exists. Each module has a class. Returns the
/// directory of the package. A program that imports `cloud.all` imports all modules.
pub fn package(directory: &Path, modules: usize) -> Result<PathBuf> {
    let root = directory.join(format!("cloud-{modules}"));
    let complete = root.join("complete");
    if complete.exists() {
        return Ok(root);
    }
    let package = root.join("cloud");
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    fs::create_dir_all(&package).with_context(|| format!("cannot create {}", package.display()))?;
    write(package.join("__init__.py"), "")?;
    let mut all = String::new();
    for number in 0..modules {
        let service = number / 50;
        let directory = package.join(format!("service{service}"));
        if number % 50 == 0 {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            write(directory.join("__init__.py"), "\"\"\"One service.\"\"\"\n")?;
        }
        write(
            directory.join(format!("operation{number}.py")),
            &module(number),
        )?;
        // Writing to a string cannot fail.
        let _ = writeln!(all, "import cloud.service{service}.operation{number}");
    }
    write(package.join("all.py"), &all)?;
    write(root.join("run.py"), "import cloud.all\n")?;
    write(complete, "")?;
    Ok(root)
}

fn module(number: usize) -> String {
    format!(
        r#""""Operation {number} of the service."""

from typing import Any, Optional

_PATH = "/subscriptions/{{subscription}}/operations/{number}"
_VERSION = "2024-{month:02}-01"


class Operation{number}:
    """Parameters of operation {number}.

    :ivar name: The name of the resource.
    :ivar location: Where it is.
    """

    _attributes = {{
        "name": {{"key": "properties.name", "type": "str"}},
        "location": {{"key": "properties.location{number}", "type": "str"}},
        "tags": {{"key": "tags", "type": "{{str}}"}},
    }}

    def __init__(self, *, name: str, location: Optional[str] = None, **kwargs: Any) -> None:
        self.name = name
        self.location = location
        self.retries = kwargs.pop("retries", {retries})

    def request(self, subscription: str) -> dict[str, Any]:
        """Build the request."""
        url = _PATH.format(subscription=subscription)
        parameters = {{"api-version": _VERSION, "location": self.location}}
        return {{"method": "GET", "url": url, "params": parameters}}

    def deserialize(self, body: dict[str, Any]) -> "Operation{number}":
        for attribute, entry in self._attributes.items():
            setattr(self, attribute, body.get(entry["key"]))
        return self
"#,
        month = number % 12 + 1,
        retries = number % 7
    )
}
