//! A check of the tables as a whole. Look-ups only check the records that they use.

use super::{EntryRecord, NONE, Tables, Text};

impl Tables<'_> {
    /// The faults of the tables: everything that a look-up would treat as absent.
    pub fn audit(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |text: String| faults.push(format!("tables: {text}"));
        for (index, root) in self.roots.iter().enumerate() {
            if self.text_at(*root).is_none() {
                fault(format!("root {index} has no path"));
            }
        }
        for (index, record) in self.modules.iter().enumerate() {
            let Some(module) = self.module_at(record) else {
                fault(format!("module {index} has no name"));
                continue;
            };
            if self.module(module.origin).is_none() {
                fault(format!("{} cannot be found", module.origin));
            }
            let uses = self.frozensets(&module).count();
            if uses != record.uses as usize {
                fault(format!(
                    "{} refers to frozensets that do not exist",
                    module.origin
                ));
            }
        }
        for index in 0..self.directories.len() as u32 {
            let Some(directory) = self.directory_at(index) else {
                fault(format!("directory {index} has no path"));
                continue;
            };
            let path = directory.path;
            if self.directory(path) != Some(directory) {
                fault(format!("{path} cannot be found"));
            }
            let first = directory.first_entry as usize;
            let entries = first
                .checked_add(directory.entries as usize)
                .and_then(|last| self.entries.get(first..last));
            match entries {
                None => fault(format!("{path} refers to entries that do not exist")),
                Some(entries) => {
                    if let Some(index) = entries.iter().position(|entry| !self.is_whole(entry)) {
                        fault(format!("entry {index} of {path} is damaged"));
                    }
                    let names = entries.iter().map(|entry| self.text_at(entry.name));
                    if !names.is_sorted() {
                        fault(format!("the entries of {path} are out of order"));
                    }
                }
            }
        }
        faults
    }

    fn is_whole(&self, entry: &EntryRecord) -> bool {
        let is_text = |text: Text| self.text_at(text).is_some();
        let has_package = entry.package == NONE || self.directory_at(entry.package).is_some();
        is_text(entry.name) && is_text(entry.file) && has_package
    }
}
