//! What a page in Markdown tells its readers to type, and what it says they will see.

use std::fmt::Write;

use anyhow::{Result, ensure};
use regex::Regex;

/// In a comment above a block: readers type it, the test does not.
const LEFT_OUT: &str = "leaves the next block out";

/// A block ```` ```sh ````, with the block ```` ```text ```` that follows it.
#[derive(Debug)]
pub struct Block {
    /// Of its first command.
    pub line: usize,
    pub commands: String,
    /// Its lines, where `…` stands for anything. Empty when nothing is said.
    pub seen: Vec<String>,
}

/// All blocks of the part under the heading `section`, in their order; of the whole page when it is empty.
///
/// # Errors
/// When there are none: the page was changed.
pub fn blocks(page: &str, section: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut inside, mut left_out) = (section.is_empty(), false);
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            inside = section.is_empty() || heading == section;
        }
        left_out |= line.contains(LEFT_OUT);
        let indent = line.len() - line.trim_start().len();
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let body: Vec<&str> = body.map(|line| line.get(indent..).unwrap_or_default()).collect();
        match language {
            "sh" if std::mem::take(&mut left_out) => {}
            "sh" if inside => {
                blocks.push(Block { line: number + 2, commands: body.join("\n") + "\n", seen: Vec::new() });
            }
            "text" if inside => {
                if let Some(block) = blocks.last_mut() {
                    block.seen = body.into_iter().map(str::to_owned).collect();
                }
            }
            _ => {}
        }
    }
    ensure!(!blocks.is_empty(), "the page has no commands under \"{section}\"");
    Ok(blocks)
}

impl Block {
    /// The last command where it stands on a line of its own: what is asked again until the answer is there. None where
    /// the block ends with a document for a command's standard input.
    pub fn question(&self) -> Option<&str> {
        let last = self.commands.lines().last()?;
        let is_end = self.commands.contains(&format!("<<'{last}'"));
        (!is_end).then_some(last)
    }

    /// Checks that each line that the page shows is in `output`, in their order.
    ///
    /// # Errors
    /// When one is not.
    pub fn expect(&self, output: &str) -> Result<()> {
        let mut rest = output;
        for line in &self.seen {
            let found = pattern(line)?.find(rest);
            ensure!(found.is_some(), "the page shows \"{}\", and there was:\n{output}", line.trim());
            rest = &rest[found.map_or(0, |found| found.end())..];
        }
        Ok(())
    }
}

/// A line with its words, whatever lies between them.
fn pattern(line: &str) -> Result<Regex> {
    let mut pattern = "(?m)".to_owned();
    for (index, word) in line.split_whitespace().enumerate() {
        if index > 0 {
            pattern.push_str(r"[ \t]+");
        }
        let parts: Vec<String> = word.split('…').map(regex::escape).collect();
        let _ = write!(pattern, "{}", parts.join(".*?"));
    }
    Ok(Regex::new(&pattern)?)
}
