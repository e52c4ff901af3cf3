//! The files and commands that a document shows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A fenced block of Markdown: the text behind the opening fence, and the lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub info: String,
    pub text: String,
}

/// The fenced blocks of a document, in order.
pub fn blocks(path: &Path) -> Result<Vec<Block>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(info) => {
                is_open = true;
                blocks.push(Block {
                    info: info.to_owned(),
                    text: String::new(),
                });
            }
            None => {
                if let Some(block) = blocks.last_mut().filter(|_| is_open) {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
        }
    }
    Ok(blocks)
}

/// The commands in a document that shows commands as indented lines, without their comments.
pub fn indented_commands(path: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let commands = text.lines().filter_map(|line| line.strip_prefix("    "));
    Ok(commands
        .map(|line| line.split(" # ").next().unwrap_or(line).trim().to_owned())
        .filter(|line| {
            ["python -", "./python", "cargo"]
                .iter()
                .any(|it| line.starts_with(it))
        })
        .collect())
}
